"""Many processes over one PostgreSQL."""
