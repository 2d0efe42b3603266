"""The HTTP API: routes, uploads, parameters, streamed responses, problems, limits, authentication, access log."""
