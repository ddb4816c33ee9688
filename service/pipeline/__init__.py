"""The pipeline: steps as Celery tasks, the relay, the sweeper, attempts and what was given up."""
