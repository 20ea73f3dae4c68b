"""What we find inside a model: which edges between heads and MLPs carry a task."""
