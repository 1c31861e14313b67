"""Small models with random weights, made here and saved as real ones are: a Stable Diffusion and a sentence encoder."""

import json
from pathlib import Path
from typing import Any

WORDS = ["a", "the", "red", "blue", "circle", "on", "fox", "boat", "river", "once", "upon", "time"]


def save_stable_diffusion(folder: Path, *, seed: int = 0) -> None:
    """Every part of SD 1.5 with its interfaces and its factor of eight between pixels and latents; 3 MB."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    import torch

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=32,
        layers_per_block=1,
        block_out_channels=(32, 64),
        cross_attention_dim=32,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )
    vocabulary = _write_vocabulary(folder / "words")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
        )
    )
    tokenizer = CLIPTokenizer.from_pretrained(str(folder / "words"), model_max_length=77)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
    )
    pipeline = StableDiffusionPipeline(
        unet=unet,
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(str(folder / "model"), safe_serialization=True)


def _write_vocabulary(folder: Path) -> int:
    """CLIP's byte pairs: every printable character alone and at the end of a word, no merges."""
    folder.mkdir(parents=True)
    characters = [chr(code) for code in range(33, 127)]
    tokens = [
        *characters,
        *[f"{character}</w>" for character in characters],
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (folder / "vocab.json").write_text(json.dumps({token: at for at, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 77,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(tokens)


def save_sentence_encoder(folder: Path, *, seed: int = 0, width: int = 384) -> None:
    """MiniLM's interfaces in one layer: word pieces of single letters, mean pooling, length 1."""
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizerFast

    import torch

    torch.manual_seed(seed)
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *[f"##{letter}" for letter in letters],
        *WORDS,
    ]
    base = folder / "base"
    base.mkdir(parents=True)
    vocabulary = list(dict.fromkeys(vocabulary))
    (base / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    configured = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
    )
    BertModel(configured).save_pretrained(str(base))
    BertTokenizerFast.from_pretrained(str(base), model_max_length=64).save_pretrained(str(base))
    words: Any = models.Transformer(str(base), max_seq_length=64)
    pooling = models.Pooling(width, pooling_mode="mean")
    SentenceTransformer(modules=[words, pooling, models.Normalize()]).save(str(folder / "model"))
