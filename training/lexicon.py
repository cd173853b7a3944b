"""The words that the generator's code needs to understand: names, kinds, moods, and what may stand for what.

Words that only the grammar's texts use are in grammar/words.txt. Not here: any choice.
"""

from __future__ import annotations

import re

GIRLS = (
    "Lily Mia Anna Emma Lucy Sara Sue Amy Zoe Ella Rosie Molly Ruby Daisy Nora Ivy Clara Maya Jane Kate Alice Ava "
    "Olivia Grace Hannah Leah Nina Tina Lola Eva Sophie Chloe Lena Lisa Jenny Betty Polly Mary Holly Hazel Penny "
    "Wendy Tara Maria Rita Gina Dora Ada Flora Iris Julia Paula Stella Vera Violet Yuki Aisha Priya Fatima Ines "
    "Carla Bella Abby Ellie Millie Josie Tilly Nelly Greta Heidi Ida Freya Luna Nadia Samira Mei Rosa Elsa Pia"
).split()
BOYS = (
    "Tom Tim Ben Max Sam Jack Leo Finn Noah Adam Luke Jim Bob Bill Joe Dan Fred Nick Pete Mark Paul Oscar Henry "
    "George Charlie Theo Felix Hugo Otto Anton Emil Oliver Ethan Liam Lucas Owen Ryan Kevin Eric Alan Carl Ned Ted "
    "Ray Roy Toby Danny Billy Bobby Tommy Timmy Jamie Louis Simon Peter Philip Victor Walter Arthur Albert David "
    "Daniel Jacob Joseph Samuel Omar Ali Ravi Kenji Hiro Diego Pablo Mateo Ivan Boris Lars Sven Nils Jonas Karl Yusuf"
).split()
# Pet-like names: the story says whether their bearer is he or she.
PETS = (
    "Spot Coco Ruff Bubbles Patch Pip Hop Fluffy Buddy Rusty Snowy Biscuit Pepper Ginger Muffin Cookie Sunny Star "
    "Dot Tiny Puff Honey Bingo Lucky Whiskers Shadow Smoky Nibbles Button Pebble Maple Hazelnut Acorn Berry Peanut "
    "Pickle Pumpkin Ziggy Momo Kiki Bobo Lulu Fifi Gogo Toto Nana Chip Dash Flip Bounce Squeak Hoot Quack Buzz Fuzzy "
    "Goldie Blaze Misty Rocky Teddy Waddles Zip Twig Clover Cocoa Mochi Olive Bean Noodle"
).split()
ANIMALS = (
    "cat dog rabbit bear fox mouse bird duck frog squirrel turtle owl pig cow horse sheep goat hen lion tiger elephant "
    "monkey giraffe zebra hippo kangaroo penguin seal whale dolphin fish crab snail bee butterfly ladybug hedgehog "
    "mole beaver raccoon deer wolf panda koala parrot crow goose swan donkey pony puppy kitten bunny chick lamb calf "
    "lizard snake bat otter badger skunk camel octopus ant spider caterpillar dragon unicorn dinosaur worm hamster"
).split()
THINGS = (
    "robot|train|car|truck|boat|cloud|star|snowman|leaf|tree|flower|kite|balloon|teapot|lamp|clock|toy soldier|doll|"
    "teddy bear|puppet|pumpkin|rocket|airplane|tractor|bus|raindrop|snowflake|pencil|spoon|candle|umbrella|shoe|sock|"
    "moon|drum|bell|scarecrow|bicycle|pebble|seed|apple|button|broom|lighthouse|windmill|house|computer|wave|ball"
).split("|")
PEOPLE = (
    "king queen prince princess farmer baker pirate wizard fairy giant knight doctor teacher fisherman sailor painter "
    "gardener astronaut witch elf troll mermaid monster ghost clown cook tailor shepherd explorer scientist inventor "
    "magician dwarf ninja cowboy firefighter pilot captain musician dancer singer woodcutter alien superhero"
).split()
SHE = {"queen", "princess", "witch", "mermaid", "fairy", "cow", "hen", "doll"}
HE = {
    "king",
    "prince",
    "wizard",
    "fisherman",
    "snowman",
    "cowboy",
    "knight",
    "toy soldier",
    "firefighter",
}
ELDERS = [
    ("mom", "f"), ("mommy", "f"), ("mama", "f"), ("mother", "f"), ("dad", "m"), ("daddy", "m"), ("papa", "m"),
    ("father", "m"), ("grandma", "f"), ("grandpa", "m"), ("aunt", "f"), ("uncle", "m"), ("big sister", "f"),
    ("big brother", "m"), ("mom", "f"), ("dad", "m"), ("mom", "f"), ("dad", "m"), ("grandma", "f"), ("grandpa", "m"),
]  # fmt: skip
WISE = "owl turtle tree bear goat crow frog elephant donkey toad horse whale cat".split()
PLACES = [
    "in the park", "at the beach", "in the garden", "in the woods", "by the lake", "by the river", "on the hill",
    "in the field", "in the yard", "at the playground", "in the meadow", "by the pond", "on the farm", "near the old mill",
    "behind the house", "near the barn", "on the big rock", "under the bridge", "in the snow", "at the edge of the forest",
    "by the old well", "near the school", "in the tall grass", "at the market", "on the mountain", "by the sea",
    "near the station", "in the orchard", "at the end of the street", "by the fountain", "in the valley", "on the island",
]  # fmt: skip
ACTS = [  # base, past, -ing
    ("play tag", "played tag", "playing tag"), ("fly a kite", "flew a kite", "flying a kite"),
    ("run", "ran", "running"), ("sing", "sang", "singing"), ("dance", "danced", "dancing"), ("swim", "swam", "swimming"),
    ("draw", "drew", "drawing"), ("paint", "painted", "painting"), ("climb trees", "climbed trees", "climbing trees"),
    ("play outside", "played outside", "playing outside"), ("pick flowers", "picked flowers", "picking flowers"),
    ("jump in puddles", "jumped in puddles", "jumping in puddles"), ("ride a bike", "rode a bike", "riding a bike"),
    ("build sand castles", "built sand castles", "building sand castles"), ("read books", "read books", "reading books"),
    ("play hide and seek", "played hide and seek", "playing hide and seek"), ("bake", "baked", "baking"),
    ("look at the stars", "looked at the stars", "looking at the stars"), ("tell stories", "told stories", "telling stories"),
    ("collect stones", "collected stones", "collecting stones"), ("play ball", "played ball", "playing ball"),
    ("chase butterflies", "chased butterflies", "chasing butterflies"), ("go for walks", "went for a walk", "going for walks"),
    ("roll down the hill", "rolled down the hill", "rolling down the hill"), ("skip rope", "skipped rope", "skipping rope"),
    ("play the drum", "played the drum", "playing the drum"), ("look for shells", "looked for shells", "looking for shells"),
    ("watch the birds", "watched the birds", "watching the birds"), ("swing", "swung on the swing", "swinging"),
    ("dig holes", "dug holes", "digging holes"), ("catch fish", "caught fish", "catching fish"),
    ("play games", "played games", "playing games"), ("count the clouds", "counted the clouds", "counting the clouds"),
    ("splash in the water", "splashed in the water", "splashing in the water"), ("explore", "explored", "exploring"),
    ("make funny faces", "made funny faces", "making funny faces"), ("help others", "helped others", "helping others"),
    ("plant flowers", "planted flowers", "planting flowers"), ("hop and jump", "hopped and jumped", "hopping and jumping"),
    ("build towers", "built towers", "building towers"), ("sail paper boats", "sailed paper boats", "sailing paper boats"),
    ("look for bugs", "looked for bugs", "looking for bugs"), ("eat cake", "ate cake", "eating cake"),
    ("play in the sand", "played in the sand", "playing in the sand"), ("fix things", "fixed things", "fixing things"),
]  # fmt: skip
PRONOUNS = {  # he, him, his, himself, was
    "m": ("he", "him", "his", "himself"),
    "f": ("she", "her", "her", "herself"),
    "n": ("it", "it", "its", "itself"),
    "i": ("I", "me", "my", "myself"),
}
MOODS: dict[str, tuple[list[str], list[str], list[str]]] = {  # verbs, tails, gestures before speaking
    ".": (["said"] * 7 + ["told {o}", "explained"],
          ["", "", "", " softly", " with a smile", " in a soft voice", " and nodded", " kindly", " after a while"],
          ["{c} nodded", "{c} smiled", "{c} looked up", "{c} thought for a moment", "{c} looked at {o}"]),
    "!": (["said", "said", "shouted", "called", "cried", "said loudly"],
          ["", "", "", " with wide eyes", " loudly", " in a clear voice", " right away"],
          ["{c} jumped up", "{c} looked up", "{c} turned around", "{c} took a step", "{c} pointed"]),
    "yay": (["shouted", "called", "cheered", "said happily", "cried happily", "said", "laughed"],
            ["", "", " and jumped up and down", " with a big smile", " and clapped", " and danced around"],
            ["{c} jumped up", "{c} clapped", "{c} laughed", "{c} threw up {c.his} arms"]),
    "thanks": (["said", "said happily", "said softly", "cried", "whispered"],
               ["", "", " with a big smile", " with shining eyes", " from the heart"],
               ["{c} smiled", "{c} beamed", "{c} was quiet for a moment", "{c} looked at {o}"]),
    "ohno": (["cried", "said", "shouted", "called", "gasped"], ["", "", " with wide eyes", " in a small voice"],
             ["{c} stopped", "{c} turned pale", "{c} looked around", "{c} held {c.his} head"]),
    "angry": (["shouted", "said angrily", "cried", "said", "yelled"], ["", "", " in a loud voice", " with an angry face"],
              ["{c} made a face", "{c} stamped {c.his} foot", "{c} frowned"]),
    "?": (["asked"] * 5 + ["wanted to know", "wondered"],
          ["", "", "", " softly", " with big eyes", " in a small voice", " and looked at {o}", " kindly"],
          ["{c} looked at {o}", "{c} came closer", "{c} stopped", "{c} sat down", "{c} looked around"]),
    "sad": (["said sadly", "sobbed", "sighed", "said", "whispered", "cried"],
            ["", "", " with tears in {c.his} eyes", " in a sad voice", " and looked down", " and began to cry", " very softly"],
            ["{c} looked at the ground", "{c} sighed", "{c} wiped {c.his} eyes", "{c} hung {c.his} head"]),
    "scared": (["whispered", "said", "cried"], ["", " in a shaky voice", " and hid {c.his} face", " and held on tight"],
               ["{c} was shaking", "{c} held {c.his} breath"]),
    "soft": (["said softly", "whispered", "said", "asked softly"], ["", " in a low voice", " with soft eyes", " very quietly"],
             ["{c} came closer", "{c} bent down", "{c} looked at {o}"]),
    "glad": (["laughed", "said", "cheered", "said with a laugh"], ["", " and jumped up and down", " and clapped", " with a grin"],
             ["{c} grinned", "{c} laughed", "{c} danced around"]),
}  # fmt: skip
YAY = re.compile(r"(?:Hooray|Yay|Yippee|Oh, wow|Wow|How wonderful|Great|Look at me|Surprise)\b")
THANKS = re.compile(r"(?:Oh, thank|Thank|Many thanks|Really\? Thank)")
OHNO = re.compile(r"(?:Oh,? no|Oh dear|Uh-oh|Help)\b")
# Words that may stand for each other wherever the grammar writes the first: cheap, and no two sentences alike.
SAME: dict[str, list[str]] = {
    "big": ["big", "big", "big", "huge", "great big"],
    "walked": ["walked", "walked", "went", "wandered", "strolled"],
    "ran": ["ran", "ran", "hurried", "rushed", "raced"],
    "looked at": ["looked at", "looked at", "looked at", "stared at", "gazed at"],
    "smiled": [
        "smiled",
        "smiled",
        "smiled a big smile",
        "grinned",
        "gave a little smile",
        "smiled from ear to ear",
    ],
    "laughed": ["laughed", "laughed", "giggled", "laughed out loud", "chuckled"],
    "very": ["very", "very", "really"],
    "very much": ["very much"],
    "began to": ["began to", "started to"],
    "everyone": ["everyone", "everyone", "everybody"],
    "at last": ["at last", "finally", "in the end"],
    "at last,": ["at last,", "finally,", "in the end,", "after a long time,"],
    "suddenly": ["suddenly", "all of a sudden", "all at once"],
    "sat down": ["sat down", "sat down", "took a seat", "sat quietly"],
    "had an idea": [
        "had an idea",
        "had a good idea",
        "got an idea",
        "had a clever idea",
        "had a wonderful idea",
    ],
    "a lot": ["a lot", "very much"],
    "hugged": ["hugged", "hugged", "put both arms around"],
    "the next day": ["the next day", "the day after", "the next morning"],
    "soon": ["soon", "soon", "before long", "a short time later"],
    "did not": ["did not", "did not", "didn't"],
    "could not": ["could not", "could not", "couldn't"],
    "was not": ["was not", "was not", "wasn't"],
    "do not": ["do not", "don't"],
    "can not": ["can not", "can't", "can't"],
    "i am": ["I am", "I'm"],
    "i will": ["I will", "I'll"],
    "it is": ["it is", "it's"],
}

# Adjectives that go before a noun that has none: `the door` -> `the old wooden door`.
BEFORE: dict[str, str] = {
    "tree": "tall|old|big|green|leafy|crooked|quiet|apple|<size>", "trees": "tall|old|green|dark|quiet|leafy",
    "door": "old|wooden|<color>|heavy|front|creaky|little", "window": "little|open|round|kitchen|cold|dark",
    "table": "kitchen|round|wooden|long|old|little|<color>", "floor": "cold|wooden|kitchen|hard|clean|bare",
    "wind": "cold|strong|wild|soft|cool|north|morning|evening", "rain": "cold|soft|warm|heavy|gray|spring",
    "room": "little|quiet|dark|warm|cozy|big|<color>", "bed": "warm|little|soft|cozy|big|<color>|old",
    "pot": "big|old|heavy|<color>|hot|iron|shiny", "hill": "green|steep|little|high|windy|round|next",
    "path": "narrow|sandy|stony|long|little|winding|muddy|old", "road": "long|dusty|empty|narrow|winding|quiet",
    "river": "cold|wide|blue|wild|deep|little|quick", "water": "cold|clear|blue|cool|deep|dark|still",
    "grass": "tall|soft|wet|green|long|cool|dry", "sky": "blue|dark|wide|gray|evening|clear|open",
    "sun": "warm|bright|golden|morning|yellow|hot|evening", "box": "old|wooden|little|dusty|heavy|<color>|secret",
    "basket": "big|heavy|old|little|full|<color>|round", "bag": "heavy|old|little|<color>|big|full",
    "house": "old|quiet|little|warm|whole|<color>|big", "garden": "green|quiet|little|wild|sunny|old|big",
    "forest": "dark|deep|old|green|quiet|cold|wide", "woods": "dark|deep|quiet|green|cold|old",
    "snow": "deep|white|fresh|soft|cold|new", "tower": "tall|crooked|high|proud|<color>|wobbly",
    "snowman": "round|funny|big|poor|cold|proud|white", "bird": "little|small|tiny|poor|<color>|shy|brave",
    "nest": "warm|little|round|empty|soft|high", "plate": "big|round|clean|<color>|empty|old",
    "letter": "old|short|long|little|strange|<color>|wet", "boat": "little|<color>|proud|brave|small|new|old",
    "puddle": "big|brown|deep|muddy|round|cold|lovely", "mud": "cold|brown|soft|deep|sticky|thick|wet",
    "hole": "deep|dark|little|big|round|muddy", "blanket": "warm|soft|<color>|old|thick|woolly",
    "lamp": "little|old|bright|<color>|warm|tiny", "song": "little|old|soft|funny|happy|new|quiet",
    "voice": "soft|small|deep|friendly|kind|clear|strange", "cake": "big|sweet|round|birthday|<color>|fresh",
    "moon": "round|bright|silver|big|white|full|yellow", "star": "bright|little|far|golden|tiny|silver",
    "stone": "smooth|round|gray|flat|cold|little|<color>", "log": "old|mossy|hollow|heavy|long|wet",
    "gate": "old|creaky|iron|wooden|little|garden|<color>", "bench": "old|wooden|empty|<color>|cold|little",
    "puppy": "little|playful|", "picture": "old|little|new|pretty|<color>",
    "seed": "little|tiny|brown|round|sleepy|", "kite": "<color>|proud|poor|new|beautiful|big", "string": "long|thin|<color>|white",
    "pumpkin": "round|heavy|orange|huge|fat|giant", "ladder": "long|old|wooden|shaky|tall", "stick": "long|strong|thin|old|crooked",
    "rope": "long|strong|old|thick|", "town": "whole|little|old|quiet", "hat": "<color>|old|funny|warm|woolly|little",
    "monster": "big|scary|strange|dark|", "noise": "strange|loud|funny|soft|little|", "shadow": "long|dark|strange|big|",
    "storm": "wild|big|loud|terrible|summer", "thunder": "loud|wild|big|angry|", "wolf": "gray|hungry|thin|old|big",
    "children": "other|big|little|happy|noisy", "people": "many|busy|nice|kind|", "friends": "good|dear|new|old|",
    "toys": "old|new|<color>|many|dear", "pieces": "little|sharp|broken|many|<color>", "soup": "hot|thick|warm|good|<color>",
    "plant": "little|green|young|tender|strong", "leaf": "little|dry|<color>|tiny|", "map": "old|dusty|strange|yellow|torn",
    "treasure": "secret|golden|hidden|old|", "race": "big|long|great|", "stage": "big|wooden|bright|high|little",
    "curtain": "long|<color>|heavy|thick|", "shop": "little|old|bright|toy|corner", "school": "big|new|old|<color>|bright",
    "teacher": "new|kind|friendly|young|", "chair": "old|little|wooden|<color>|big", "bridge": "old|wooden|narrow|high|little",
    "clouds": "dark|white|heavy|gray|little|soft", "cloud": "dark|white|heavy|gray|little|soft", "flowers": "wild|pretty|<color>|little|fresh",
    "wall": "old|high|stone|<color>|long", "fence": "old|wooden|<color>|low|broken", "pond": "little|quiet|green|cold|deep",
    "beach": "long|sunny|sandy|quiet|windy", "park": "green|quiet|sunny|big|little", "lake": "blue|quiet|cold|big|deep",
    "sea": "blue|wide|wild|big|deep|gray", "farm": "old|little|big|quiet|", "barn": "old|<color>|big|empty|dusty",
    "tail": "long|fluffy|", "coat": "warm|old|<color>|thick|", "pillow": "soft|<color>|little|big|", "shelf": "high|old|wooden|long|",
    "street": "long|quiet|busy|little|", "market": "busy|big|loud|colorful|", "meadow": "green|wide|sunny|quiet|",
    "field": "wide|green|golden|big|", "yard": "little|sunny|quiet|back|", "playground": "new|big|busy|noisy|",
    "tears": "big|hot|salty|little|", "game": "new|funny|little|wild|old", "plan": "good|clever|secret|new|",
    "stove": "old|hot|little|iron|", "cup": "<color>|old|little|big|", "mirror": "old|long|dusty|little|",
}  # fmt: skip
# What may follow a verb that ends its clause: `waited.` -> `waited patiently.`
AFTER: dict[str, str] = {
    "waited": "patiently|for a long time|and hoped|quietly|by the <bigthing>|and listened", "cried": "softly|for a while|big tears",
    "sang": "softly|happily|out loud|with all {h.his} heart", "danced": "happily|in a circle|around the <bigthing>|like a leaf",
    "ran": "very fast|<simile_fast2>|without looking back", "walked": "slowly|for a long time|hand in hand|without a word",
    "listened": "carefully|for a long time|without a sound", "played": "happily|for a long time|all afternoon",
    "worked": "hard|side by side|without a break|happily", "jumped": "high|up and down|over a <bigthing>",
    "nodded": "slowly|happily|and smiled", "smiled": "kindly|happily|a little|<simile_happy>", "slept": "deeply|like a stone|until morning",
    "laughed": "and laughed|happily|until {h.his} tummy hurt", "clapped": "loudly|and cheered|for a long time",
    "sighed": "softly|deeply|and looked away", "waved": "goodbye|happily|with both hands|for a long time",
    "searched": "everywhere|high and low", "tried": "very hard|with all {h.his} might|many times",
}  # fmt: skip
# Where a sentence may begin, and how it may end, without changing what happens.
AHEAD = (
    "After a while, |A little later, |Little by little, |Now |So |Then |Soon |For a moment, |"
    "That day, |At that moment, |Bit by bit, |And then |Before long, |A moment later, |By and by, |And so "
).split("|")
MEANWHILE = {
    False: " while [a <color> <critter>|two <critters>|the <critters>|a <adj> <critter>] [watched|looked on|sang|flew by|listened|sat on a <bigthing>|came closer] | "
    "while the [wind|sun|leaves|clouds] [moved on|played in the grass|made no sound] | as the [sun|wind|evening|afternoon] [came|grew warmer|went by] | "
    "[near|beside|behind|next to] [a|the] <adj> <bigthing> | under the [<color>|wide|warm|cloudy|open] sky | in the [soft|warm|golden|gray|bright] light ",
    True: " while the [clock|rain|kettle|radio|old chair|cat] [went on|made a soft sound|sang|hummed] | while the <adj> [curtain|lamp|clock] [moved a little|stood still|shone] | "
    "[near|beside|behind|next to] [a|the] <adj> [chair|table|lamp|sofa|shelf|door|rug|box] | in the [soft|warm|golden|gray|bright] light | in the [quiet|warm|big|little|<color>] [room|kitchen|house] ",
}  # fmt: skip
