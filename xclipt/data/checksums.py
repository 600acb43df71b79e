"""Sizes in bytes and SHA-256 sums of the published caption files, by path in their repository."""

XTD = {
    "LICENSE.md": (3632, "f9908a6ae7d75e49452013687f4db397b035d7bb69f3975961eb739e878a83bf"),
    "XTD10/test_1kcaptions_en.txt": (
        65828,
        "ac5531b6842c1d469fba80aa6f44e2af054e84a41da8f9eaf01d831e943039b9",
    ),
    "XTD10/test_1kcaptions_es.txt": (
        66315,
        "cacc43d4e7af56b02033865531ea70494049f1d0dd3ea89ff2a217e7e190c4f2",
    ),
    "XTD10/test_1kcaptions_it.txt": (
        65178,
        "b4095d3550eb1accf8c9c78314b4bef45847a3929b5c5fe15a1264ea31dec7cc",
    ),
    "XTD10/test_1kcaptions_ko.txt": (
        70124,
        "92d35e082cd081724560c9abdb2b45753ceb52aaabddb9a0f79dc04967a36800",
    ),
    "XTD10/test_1kcaptions_pl.txt": (
        66605,
        "b6af6b7941f44e902b50736dcf9a7221af28e755a259511652c599cf6ae89c78",
    ),
    "XTD10/test_1kcaptions_ru.txt": (
        95035,
        "7d93631ff85b53592091b3cbfd9ca963397e77038fb3d0fdd9374b1b02ae98a3",
    ),
    "XTD10/test_1kcaptions_tr.txt": (
        71756,
        "147e9763dcb6e6ebba0b98fc799f0145c7d90005fa03ca8ec5a7cf29a04dd136",
    ),
    "XTD10/test_1kcaptions_zh.txt": (
        58660,
        "17229ff02ac85dd2d165f8316515a24fbe5100dbf486c22aaa12105dfb3353bf",
    ),
    "XTD10/test_image_names.txt": (
        31600,
        "504a472dfd40e44f2d0facd6320b9dc1c7d64c58aac9840f0b1da4807cb3a30a",
    ),
    "MIC/test_1kcaptions_de.txt": (
        75593,
        "51f1e9fe05d85b7cd33543676ed2fea51b05399cc403a5fca557ca7ecdb9a207",
    ),
    "MIC/test_1kcaptions_fr.txt": (
        79287,
        "84aa16954706a0f654b59788ffb6a3bcb1b1d9d12dc9d7a3de26730bc04664b5",
    ),
    "STAIR/test_1kcaptions_jp.txt": (
        63028,
        "20908aa5763ee7b1bacc1f29aa507532d3dc6a7e6a8c43e6acd2ec72d1e80c10",
    ),
}

MULTI30K = {
    "data/task1/image_splits/test_2016_flickr.txt": (
        14756,
        "871e8ecafc66fb13e044ecccf669d04a865b4c58553227df86b933f0337a1563",
    ),
    "data/task1/image_splits/train.txt": (
        427810,
        "97ee57e160a46c7d0e75298ebf57967e1245698a6f8806436ff07e61d1a41221",
    ),
    "data/task1/image_splits/val.txt": (
        14966,
        "db26f03eaf833ec47bfaea129ed053b68cbcfc5d1f9a09c4cdf7c88fbfea7108",
    ),
    "data/task1/raw/test_2016_flickr.cs.gz": (
        22572,
        "200a4a74cc9560f051924abb9803be008d1908d77f747e9141aeb86dfd2797f1",
    ),
    "data/task1/raw/test_2016_flickr.de.gz": (
        22890,
        "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    ),
    "data/task1/raw/test_2016_flickr.en.gz": (
        21077,
        "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    ),
    "data/task1/raw/test_2016_flickr.fr.gz": (
        22310,
        "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
    ),
    "data/task1/raw/train.cs.gz": (
        593827,
        "a65adb8b32e3bc664f21ecba7a6e7f6950fd1f405e135f7c312faabdb6255077",
    ),
    "data/task1/raw/train.de.gz": (
        637044,
        "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    ),
    "data/task1/raw/train.en.gz": (
        568929,
        "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    ),
    "data/task1/raw/train.fr.gz": (
        604242,
        "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    ),
    "data/task1/raw/val.cs.gz": (
        22096,
        "b63226e05c4bd5dd6a42897d74b86a1b9d2c31498252c572b1ea7f7996927fcc",
    ),
    "data/task1/raw/val.de.gz": (
        24681,
        "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    ),
    "data/task1/raw/val.en.gz": (
        21650,
        "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    ),
    "data/task1/raw/val.fr.gz": (
        23001,
        "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
    ),
}
