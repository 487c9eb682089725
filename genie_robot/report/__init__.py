"""Self-contained HTML pages: layout, charts as SVG, pictures and films inside the file; no script, nothing loaded."""
