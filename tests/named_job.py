"""A job to be planned, by name."""

from circuits.attribution import cost_of
from circuits.planning import Job


def job_of(shape, method="eap-ig", steps=None, n=1, recompute=False):
    return Job(shape, cost_of(method), steps, n, recompute)
