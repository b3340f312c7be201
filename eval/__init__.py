"""The eval pipeline."""

if __name__ != "ragkit.eval":
    raise ImportError(f"this folder is the package ragkit.eval, not {__name__}; install ragkit and import that")
