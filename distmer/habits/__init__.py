"""What dishonest habits of evaluation are worth. No number that is made here may be a headline.

Only its report and its command import this package. Its folds have identities of their own (the content keys
of their clips say which habit made them), so an honest run never uses one of them. Nothing of it is written
into a run folder or to MLflow.
"""
