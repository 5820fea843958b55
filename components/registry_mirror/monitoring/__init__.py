"""What Prometheus and Grafana are given of a mirror: its metrics, rules, a dashboard, and how it is
scraped.

Owns the names. `rules.yml` and `dashboard.json` are files that a user takes as they are;
`dashboard.json` is made from `panels.py` by `make dashboard`.
"""
