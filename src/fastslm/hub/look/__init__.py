"""A look at models that are not here: sizes and headers, a few hundred kilobytes each."""
