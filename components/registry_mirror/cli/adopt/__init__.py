"""The verb `adopt`: a mirror that was set up by hand becomes a stack. Looks at the swarm, describes
the mirror, and imports its service into the stack; changes nothing on the swarm or on a node."""
