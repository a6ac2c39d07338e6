"""classreg: classical image registration, pairwise and groupwise, in physical space."""
