"""Finding passages: dual encoders, BM25, and fusions of both."""
