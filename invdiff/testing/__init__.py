"""Public laws for authors of operators, noise models, priors, solvers and file formats: each raises AssertionError."""
