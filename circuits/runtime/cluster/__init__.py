"""Work on the processes of a Ray cluster: settings, the connection, workers, and their pool."""
