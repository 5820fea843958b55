"""What brings the project's tools and runs its stages; standard library only, because it runs
before anything is there."""
