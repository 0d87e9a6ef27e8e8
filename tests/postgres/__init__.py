"""The PostgreSQL that tests use, and the proxy that cuts its connections, are what they say they are."""
