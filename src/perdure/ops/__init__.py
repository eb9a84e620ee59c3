"""For whoever runs the service: health, metrics, traces, the command line, endpoints.

Works on a ``Runtime`` from outside, or on its store; nothing in the runtime knows of it. Each
module needs at most one extra (``perdure[cli]``, ``[prometheus]``, ``[otel]``, ``[service]``).
"""
