"""open_clip's format: ``open_clip_config.json`` beside ``open_clip_model.safetensors``.

A text tower is an encoder of transformers with open_clip's pooling and projection (``encoders``),
or open_clip's own transformer (``own``, ``transformer``). The image tower, its preprocessing, the
cleaning of texts and CLIP's vocabulary are open_clip's own code; nothing else of it is needed, and
neither is the hub.
"""

from xclipt.backbones.open_clip.family import OPEN_CLIP

__all__ = ["OPEN_CLIP"]
