"""The training pipeline."""

if __name__ != "ragkit.training":
    raise ImportError(f"this folder is the package ragkit.training, not {__name__}; install ragkit and import that")
