"""Many runtimes over one PostgreSQL."""
