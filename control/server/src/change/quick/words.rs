//! Words of the hostnames of quick tunnels: short, plain, easy to say and to type.

/// One for each value of a byte, so that random bytes choose evenly.
#[rustfmt::skip]
pub(super) const WORDS: [&str; 256] = [
    "acorn", "adobe", "agate", "alder", "alley", "amber", "ample", "angle", "anvil", "apple", "apron",
    "arbor", "arrow", "ashen", "aspen", "attic", "autumn", "badge", "baker", "balmy", "basin", "beach",
    "beech", "berry", "birch", "bison", "blaze", "bloom", "bluff", "board", "bonus", "bough", "brave",
    "bread", "breeze", "brick", "bridge", "brook", "broom", "brush", "cabin", "cable", "camel", "candle",
    "canoe", "canyon", "carol", "cedar", "chalk", "charm", "cheer", "cherry", "chess", "chime", "cider",
    "cinder", "citrus", "clay", "clever", "cliff", "cloud", "clover", "coast", "cobalt", "comet", "copper",
    "coral", "cotton", "cove", "crane", "creek", "crisp", "crown", "cumin", "curve", "cycle", "daisy",
    "dapple", "dawn", "delta", "denim", "depot", "desert", "dingle", "dome", "dove", "draft", "dream",
    "drift", "drum", "dune", "dusk", "eager", "eagle", "early", "earth", "easel", "ebony", "echo", "elbow",
    "elder", "elm", "ember", "emery", "equal", "fable", "falcon", "fancy", "fern", "ferry", "fiddle",
    "field", "finch", "fjord", "flame", "flax", "fleet", "flint", "flora", "flute", "forest", "forge",
    "fossil", "fox", "frost", "gable", "garden", "gauge", "gentle", "ginger", "glade", "glass", "globe",
    "goose", "grain", "grape", "gravel", "green", "grove", "gull", "hamlet", "happy", "harbor", "harp",
    "haven", "hawk", "hazel", "heath", "hedge", "heron", "hill", "honey", "hoop", "horizon", "ibis",
    "igloo", "inlet", "iris", "island", "ivory", "ivy", "jade", "jasper", "jolly", "juniper", "kayak",
    "kelp", "kettle", "kiosk", "kite", "knoll", "lagoon", "lake", "lamp", "lantern", "lapis", "larch",
    "lark", "latch", "laurel", "lava", "lemon", "lilac", "lime", "linen", "lively", "lodge", "lotus",
    "lucky", "lunar", "lupin", "lyric", "magnet", "mango", "maple", "marble", "marsh", "meadow", "mellow",
    "melon", "mesa", "mild", "mill", "mint", "misty", "moss", "nectar", "noble", "north", "novel", "nutmeg",
    "oak", "oasis", "oat", "ocean", "olive", "onyx", "opal", "orbit", "orchid", "otter", "owl", "paddle",
    "palm", "papaya", "parade", "peach", "pearl", "pebble", "pecan", "petal", "pine", "planet", "plaza",
    "plum", "polar", "pond", "poplar", "poppy", "prairie", "prism", "pumpkin", "quail", "quartz", "quiet",
    "quilt", "rain", "raven", "reef", "ridge", "ripple", "river", "robin", "rocket", "rose", "ruby",
];
