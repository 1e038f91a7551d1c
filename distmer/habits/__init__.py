"""What dishonest habits of evaluation are worth: the room of every number that must not be a headline.

Nothing outside this package, its report and its command imports it. Its folds have identities of their own
(the content keys of their clips say which habit made them), so that none can answer for an honest run, and
nothing of it is written into a run folder or to MLflow.
"""
