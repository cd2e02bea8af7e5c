//! Trains a head on cached features, with training steps that are ONNX graphs.
