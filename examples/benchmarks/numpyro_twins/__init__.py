"""The programs of `pyro_programs` in NumPyro, file by file and under the same names; sites have the same names too."""
