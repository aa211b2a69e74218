"""The steps of the pipeline, as the admins arrange them."""
