"""Cloned policies: from demonstrations with actions (`train_policies`) and from video alone (`from_video`)."""
