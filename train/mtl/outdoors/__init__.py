"""How networks answer in conditions that they were not trained in, and whether they know it: domains, measures, a report."""
