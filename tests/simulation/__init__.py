"""The real outbox and delivery against a model of Redis and the network, in virtual time."""
