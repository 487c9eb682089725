"""Robot video data: reading, writing, caching and serving episodes (imports only `config` and `errors`)."""
