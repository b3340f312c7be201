"""What a reader thinks of each passage: the signals that train a retriever from questions and answers alone."""

from ragkit.feedback.attention import attention
from ragkit.feedback.encoding import encoded
from ragkit.feedback.leave_one_out import leave_one_out
from ragkit.feedback.likelihood import likelihood
from ragkit.feedback.signal import AnsweredQuestions, Feedback, Signal

__all__ = ["AnsweredQuestions", "Feedback", "Signal", "attention", "encoded", "leave_one_out", "likelihood"]
