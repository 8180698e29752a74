"""What servers and runners do with pending orders at SIGTERM."""
