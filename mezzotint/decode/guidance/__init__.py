"""Steering what is written: by classifiers, gradients and agreement."""
