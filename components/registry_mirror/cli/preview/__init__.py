"""The verb `preview`: what a change would do, for people who decide on it, in a throwaway copy of
the program that needs neither the swarm nor a secret."""
