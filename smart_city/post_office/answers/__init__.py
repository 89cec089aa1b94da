"""What agents say of the questions they took: it reaches the asker's log first, then the inbox."""

from smart_city.post_office.answers.words import Answers

__all__ = ["Answers"]
