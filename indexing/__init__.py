"""The indexing pipeline."""

if __name__ != "ragkit.indexing":
    raise ImportError(f"this folder is the package ragkit.indexing, not {__name__}; install ragkit and import that")
