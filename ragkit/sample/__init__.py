"""The built-in sample corpus: passages, questions and answers written for ragkit."""
