"""What distmer is measured against: written plainly, as a competent user would write it, committed first,
then left alone.

Nothing here imports distmer.
"""
