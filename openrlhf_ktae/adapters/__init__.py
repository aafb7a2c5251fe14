"""The estimator in other trainers: `adapters.trl`, `adapters.verl`. Each imports its trainer; this package neither."""
