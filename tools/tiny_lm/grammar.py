"""Write the short stories that tiny-lm learns from: a story grammar, and nothing else.

One seed gives one story. A template is plain text with two marks: `{slot}` is filled from the story's cast and
place, `[a|b|c]` picks one of the alternatives (they nest, and an empty alternative is allowed). A plot is a list of
beats; a beat is a block of lines, one alternative a line. Every sentence here was written for this project.
"""

# The templates are one line an alternative, however long the sentence.

from __future__ import annotations

import functools
import random
import re

# Seeds from here on are never trained on: they measure what was learnt.
FIRST_HELD_OUT_SEED = 1_000_000_000


def words(text: str) -> list[str]:
    return text.split()


def phrases(text: str) -> list[str]:
    return text.split("|")


SHE_NAMES = words(
    "Mira Lily Nora Ada Ella Ruby Poppy Clara Anna Rosa Hazel Ivy Maya Tilda Luna Daisy Greta Sofia Pearl Juno "
    "Alma Freya Nina Willow"
)
HE_NAMES = words(
    "Tom Ben Oscar Finn Jack Leo Sam Max Hugo Otto Rufus Felix Theo Milo Pip Bruno Arlo Henry Jasper Toby Anton "
    "Emil Noah Elias"
)

ANIMALS = words(
    "fox rabbit bear mouse otter hedgehog squirrel badger owl frog duck cat dog goat deer mole beaver hare pony "
    "robin turtle lamb goose swan kitten puppy"
)
ANIMAL_ADJECTIVES = words("little small young brown grey clever shy brave quiet gentle curious")
CHILD_ADJECTIVES = words("little young clever shy brave quiet kind curious cheerful")
TRADES = words("baker sailor farmer gardener shepherd painter miller tailor fisher teacher weaver carpenter")
TRADE_ADJECTIVES = words("young old kind clever quiet gentle cheerful patient")

# A place: its name, the word that leads to it, its adjectives, what is seen there, and where things can hide.
PLACES: dict[str, tuple[str, str, str, str]] = {
    "harbour": (
        "in",
        "old quiet busy little",
        "white gulls|fishing boats|tall ships|blue nets",
        "under an old boat|behind the fishing nets|at the end of the pier|beside the lighthouse|near the rope shed",
    ),
    "forest": (
        "in",
        "green deep quiet old",
        "tall pine trees|bright mushrooms|soft ferns|red squirrels",
        "under the big oak tree|behind a mossy rock|beside the stream|inside a hollow log|near the blackberry bushes",
    ),
    "village": (
        "in",
        "small quiet sunny old",
        "red roofs|busy shops|flower pots|stone walls",
        "behind the bakery|beside the well|under the church steps|near the school gate|inside the empty barn",
    ),
    "meadow": (
        "in",
        "green wide sunny quiet",
        "yellow flowers|white butterflies|long grass|humming bees",
        "in the long grass|under the willow tree|beside the wooden fence|near the rabbit holes|behind a haystack",
    ),
    "mountain": (
        "on",
        "tall snowy grey windy",
        "white clouds|steep paths|small goats|cold streams",
        "behind a big rock|inside a small cave|beside the frozen stream|under a bent pine|near the stone hut",
    ),
    "river": (
        "by",
        "wide slow silver cold",
        "round stones|silver fish|green reeds|little boats",
        "under the wooden bridge|behind the reeds|beside the water mill|near the flat stones|inside an old boat",
    ),
    "garden": (
        "in",
        "secret little old sunny",
        "red roses|tall sunflowers|apple trees|garden paths",
        "under the rose bush|behind the shed|beside the pond|inside a flower pot|near the apple tree",
    ),
    "farm": (
        "on",
        "small old busy sunny",
        "brown cows|golden fields|noisy hens|red barns",
        "behind the barn|under the hay cart|beside the duck pond|inside the hen house|near the farm gate",
    ),
    "beach": (
        "on",
        "long sandy quiet windy",
        "pink shells|white waves|small crabs|wet sand",
        "behind a sand hill|under a pile of driftwood|beside a rock pool|near the sea wall|inside a small cave",
    ),
    "town": (
        "in",
        "old busy little rainy",
        "tall houses|market stalls|narrow streets|street lamps",
        "behind the clock tower|under a market stall|beside the fountain|near the train station|inside the library",
    ),
    "hill": (
        "on",
        "green windy round quiet",
        "grey sheep|stone walls|purple flowers|low clouds",
        "behind the old windmill|under a lonely tree|beside the stone wall|near the sheep path|inside a little hut",
    ),
    "lake": (
        "by",
        "blue deep calm frozen",
        "water lilies|white swans|wooden boats|tall reeds",
        "under the jetty|behind the boat house|beside the reeds|near the picnic tree|inside a rowing boat",
    ),
    "castle": (
        "in",
        "old grey ruined tall",
        "stone towers|long halls|dusty flags|iron gates",
        "behind the iron gate|under the stone stairs|beside the dry well|inside the north tower|near the kitchen fire",
    ),
    "orchard": (
        "in",
        "old sunny quiet little",
        "red apples|plum trees|wooden ladders|sleepy wasps",
        "under the pear tree|behind the ladder|beside the apple baskets|near the old gate|inside a wooden box",
    ),
    "island": (
        "on",
        "small green lonely sunny",
        "palm trees|warm sand|sea birds|bright shells",
        "under a palm tree|behind the rocks|beside the landing place|near the bird nests|inside a sea cave",
    ),
}

OBJECT_ADJECTIVES = words("red blue green yellow silver golden wooden little old shiny striped")
OBJECTS = words(
    "kite key hat bell lantern map shell button scarf drum box book letter compass ball basket umbrella flute whistle "
    "ribbon ring boat cup coat spoon feather clock"
)
FOODS = phrases(
    "bread|honey cakes|apple pie|plum jam|hot soup|blackberries|cheese|pancakes|warm milk|ginger biscuits|nuts|"
    "strawberries|buttered toast|pears"
)
SKILLS = phrases(
    "swim|sing|paint|whistle|bake bread|dance|read|skate|ride a pony|row a boat|juggle|knit|climb trees|play the flute"
)
FEARS = phrases("the dark|deep water|thunder|high places|loud noises|the cold wind|big dogs|the empty house")
BUILDS = phrases("boat|bridge|tree house|raft|cart|snow house|wooden tower|bird house|swing|little hut")

OPENINGS = """
Once upon a time, there was {a_hero} [named|called] {N}. {N} lived {at}.
Once upon a time, {a_hero} [named|called] {N} lived {at}.
Once upon a time {at}, there lived {a_hero} [named|called] {N}.
Once upon a time, {at}, {a_hero} [named|called] {N} had a [small|cosy|tidy|warm] [house|home].
A {hadj} {h} [named|called] {N} lived {at}.
Once there was {a_hero} [named|called] {N}. {He} lived {at}.
There was once {a_hero} [named|called] {N} who lived {at}.
Long ago, {at}, there lived {a_hero}. {His} name was {N}.
{At}, there lived {a_hero} [named|called] {N}.
{At}, everyone knew {N} the {h}.
{At}, where there were {sight}, lived {a_hero} [named|called] {N}.
The {hadj} {h} was [named|called] {N}. {He} lived {at}.
The {hadj} {h} lived {at}. {His} name was {N}, and {he} liked to [sing|smile|walk|dream|help others].
The {hadj} {h} loved {place}. {His} name was {N}, and {he} knew every [path|corner|stone] of it.
{N} was {a_hero} who lived {at}.
{N} the {h} lived {at}, where there were {sight}.
One [morning|day|evening|spring morning|summer day|winter morning], {a_hero} [named|called] {N} went for a walk {at}.
One [morning|day|evening|afternoon], {N} the {h} [woke up early|looked out of the window|sat by the door|came home].
One [bright|cold|quiet|rainy|windy] [morning|day|evening|afternoon], {N} the {h} was {at}.
It was a [bright|cold|quiet|rainy|windy] [morning|day|evening] {at}. {N}, {a_hero}, was [awake early|all alone|at home].
Every [morning|day|evening], {N} the {h} walked {at}.
My [grandmother|grandfather|mother|uncle] told me about {N}, {a_hero} who lived {at}.
"""

INTRODUCTIONS = """
{He} [liked|loved] to [look at|watch|count] the {sight}.
There were {sight} [there|all around], and {N} [liked|loved] them very much.
{His} [best|dearest|oldest] friend was {F}, {a_friend}.
{He} had a [good|dear|true] friend, {a_friend} [named|called] {F}.
The [sun|sky|air] was [bright|warm|clear], and {N} felt [happy|cheerful|calm].
[A soft rain was falling|A cold wind was blowing|The sun was shining|The birds were singing|Snow lay on the ground].
Every [morning|day|evening], {he} had [bread|soup|warm milk|berries] and went outside.
{N} was [kind|gentle|honest|brave|clever], but sometimes {he} was [a little shy|a little lonely|too quick|too proud].
Nobody {at} was [as kind|as curious|as cheerful|as busy] as {N}.
"""

# Every plot may use the hero, the friend (brought in by the plot's first beat where it matters) and a stranger.
PLOTS: dict[str, list[str]] = {
    "lost thing": [
        """
        {N} had a {obj} that {he} loved more than anything.
        {His} [favourite|dearest|most precious] thing was a {obj}. It was a gift from {his} [mother|father|grandmother].
        {N} always carried a {obj}. It made {him} feel [safe|lucky|happy|brave].
        """,
        """
        One day, the {thing} was gone. "Oh no!" cried {N}. "Where is my {thing}?"
        But [one morning|one evening|that day], {he} could not find the {thing} anywhere.
        [Then|One day], {he} looked in {his} [pocket|bag|room], and the {thing} was not there. {N} began to cry.
        """,
        """
        {He} looked {sp1}, but it was not there. {He} looked {sp2}, but it was not there either.
        First {he} looked {sp1}. Then {he} looked {sp2}. There was no {thing}.
        {N} searched {sp1} and {sp2}, but {he} found [nothing|only dust|only leaves|only an old nail].
        """,
        """
        {F} the {f} saw that {N} was sad. "I will help you," said {F}.
        "What is wrong?" asked {F} the {f}. "I have lost my {thing}," said {N}. "Then we will look together," said {F}.
        Soon {F} the {f} came by. "Do not worry," said {fe}. "Two can look better than one."
        """,
        """
        Together they looked {sp3}, and there was the {obj}!
        They walked and walked. At last, {sp3}, {F} saw something [bright|familiar|small]. It was the {obj}!
        "Look!" said {F}. There, {sp3}, was the {obj}. [It was wet but whole.|It was not broken at all.|]
        """,
        """
        {N} [hugged|thanked] {F}. "You are a true friend," {he} said.
        "Thank you, {F}," said {N}, and {he} held the {thing} [very tightly|close|with both hands].
        {N} was so happy that {he} [danced|laughed|sang] all the way home.
        """,
    ],
    "lost stranger": [
        """
        One [day|evening|afternoon], {N} heard someone crying {sp1}. It was a [small|young|little] {s}.
        [Near the path|On the way home|In the afternoon], {N} met a [small|young|little] {s} who was crying {sp1}.
        """,
        """
        "Why are you crying?" asked {N}. "I am lost," said the {s}. "I want to go home."
        "What is the matter?" asked {N}. The {s} [sniffed|sobbed|looked up]. "I cannot find my [mother|family|home]," {se} said.
        """,
        """
        "Do not be afraid," said {N}. "I know every path {at}." {He} took the {s} by the hand.
        {N} [smiled|nodded]. "Come with me," {he} said. "We will find the way together."
        {N} gave the {s} some {food}. "First we eat, and then we walk," {he} said.
        """,
        """
        They looked {sp2}, but nobody was there. They looked {sp3}, and they heard a voice.
        They walked past the {sight} and stopped {sp2}. Then they heard someone calling {sp3}.
        They went [slowly|quietly|a long way]. It was [getting dark|getting late|getting cold], but {N} did not give up.
        """,
        """
        It was the [mother|father|sister|brother] of the {s}! They held each other and [cried|laughed] for joy.
        At last they saw a [light|small house|warm fire]. "That is my home!" cried the {s}, and {se} ran to the door.
        """,
        """
        The family thanked {N} and gave {him} some {food}.
        "Thank you for bringing {sim} home," they said, and {N} felt [warm inside|proud and happy|very glad].
        The {s} waved and waved until {N} was out of sight.
        """,
    ],
    "storm": [
        """
        One [night|evening|afternoon], a [great|dark|terrible] storm came. The wind [howled|roared|shook the windows].
        [Suddenly|That night], the sky turned [black|grey|dark], and [rain|hail|snow] began to fall.
        Dark clouds came over {place}. "A storm is coming," said {N}.
        """,
        """
        {N} was [safe at home|warm by the fire|in bed] when {he} heard a knock. It was {F} the {f}, [wet|cold] and tired.
        {N} saw {F} the {f} standing {sp1}. {F} was [wet and cold|shaking with cold|very frightened].
        """,
        """
        "My [house|roof|home] has blown away," said {F}. "May I stay with you?"
        "I have nowhere to sleep," said {F}. "The wind took my [roof|door|house]."
        "I am so cold," said {F}. "May I come in?"
        """,
        """
        "Of course," said {N}. {He} made [a fire|some tea|a soft bed] and gave {F} some {food}.
        {N} [opened the door wide|took {fis} hand|did not wait]. "Come in, come in," {he} said. "There is room for two."
        """,
        """
        All night the wind blew, but inside it was [warm|quiet|safe]. They told stories until [morning|they fell asleep].
        They listened to the rain and [sang|talked|told stories]. Soon they were not afraid at all.
        """,
        """
        In the morning the sun came out. They [went outside|worked together] and [built a new roof|mended the house|picked up the branches].
        The next day the storm was gone. "Now let us build your house again," said {N}, and they did.
        """,
    ],
    "sharing": [
        """
        One day, {N} [made|baked|found|was given] some {food}. It smelled [wonderful|sweet|very good].
        {N} was [hungry|very hungry] that day, and {he} had only some {food} in {his} basket.
        """,
        """
        {sp1_C}, {he} met a [thin|poor|tired|hungry] {s}. "I have not eaten since [yesterday|Monday|morning]," said the {s}.
        On the way {he} saw a [thin|poor|tired|hungry] {s} sitting {sp1}. The {s} looked at the basket and said nothing.
        """,
        """
        {N} looked at the {food}. There was not much. But {he} [broke it in two|gave away half|sat down beside {sim}] and [smiled|said, "Please eat."].
        "Please have some of my {food}," said {N}. "It tastes better when we share."
        At first {N} wanted to keep it all. Then {he} thought of [how hungry the {s} was|what {his} mother had told {him}], and {he} shared the {food}.
        """,
        """
        The {s} ate [slowly|quickly|every bit] and said, "Thank you. I will not forget this."
        "You are very kind," said the {s}. "One day I will help you too."
        """,
        """
        [Many days|Some weeks|A month] later, {N} [fell into a hole|was lost in the fog|hurt {his} foot] {sp2}. {He} called for help.
        Then winter came, and {N} had [no food|no wood|nothing to eat]. {He} was [cold|worried|sad].
        """,
        """
        Who came to help? It was the {s}! "You shared with me," {se} said, "and now I will help you."
        The {s} heard about it and came at once. "Now it is my turn," {se} said [with a smile|and laughed].
        """,
    ],
    "fear": [
        """
        There was one thing that {N} did not like. {He} was afraid of {fear}.
        {N} was [brave|clever|strong] in many ways, but {he} was afraid of {fear}.
        """,
        """
        When the others went to play, {N} [stayed at home|hid {sp1}|said that {he} was tired].
        Every time {he} thought of it, {his} [knees shook|heart beat fast|hands went cold].
        The other animals laughed, and that made {N} feel [small|sad|lonely].
        """,
        """
        {F} the {f} did not laugh. "I was afraid once too," said {F}. "Shall we try together?"
        "Everyone is afraid of something," said {F} the {f}. "Hold my hand, and take one small step."
        """,
        """
        So they went [slowly|step by step|hand in hand]. {N} [closed {his} eyes|took a deep breath|counted to ten] and took one step. Then {he} took another.
        The first day {he} took one step. The next day {he} took two. {F} was always beside {him}.
        """,
        """
        Then one [night|day|evening], {F} [was in trouble|called for help|was lost] {sp2}. There was no time to be afraid.
        One [night|day|evening], a [small|young] {s} needed help {sp2}, and nobody else was near.
        """,
        """
        {N} ran as fast as {he} could. {He} did not think about {fear} at all until everyone was safe.
        {N} was still a little afraid, but {he} went anyway, and everyone was safe. "You are the bravest of us all," said {F}.
        """,
    ],
    "learning": [
        """
        More than anything, {N} wanted to learn to {skill}.
        {N} had one [wish|dream]. {He} wanted to {skill}.
        One day {N} saw {F} the {f} {skill}. "I want to do that too," {he} said.
        """,
        """
        {He} tried on Monday, and it went [badly|wrong]. {He} tried on Tuesday, and it went [badly|wrong] again.
        The first time {he} tried, everyone laughed. {N} [went red|ran home|hid {sp1}].
        "I cannot do it," said {N}. "I will never be able to {skill}."
        """,
        """
        "Nobody can do it the first time," said {F} the {f}. "I will teach you."
        {F} the {f} sat down beside {him}. "Try a little every day," {fe} said. "That is the whole secret."
        An old {s} heard {him}. "I needed a whole year to learn it," said the {s}. "Do not stop now."
        """,
        """
        So {N} practised every [morning|evening|day] {sp2}. [Some days were hard|Sometimes {he} wanted to stop], but {he} went on.
        {N} practised in the [sun|rain|wind] and in the [morning|evening]. Little by little, it became easier.
        """,
        """
        At last the day of the [fair|feast|festival] came, and everyone was there. {N} [took a deep breath|stepped forward|closed {his} eyes].
        Then, one [quiet|bright] [morning|evening], it worked. {N} could hardly believe it.
        """,
        """
        "You did it!" cried {F}. {N} [laughed|smiled|jumped for joy]. Now {he} could really {skill}.
        Everyone clapped, and nobody clapped louder than {F}. "I only needed time," said {N}.
        """,
    ],
    "building": [
        """
        One day, {N} and {F} the {f} wanted to build a {build}.
        "Let us build a {build}," said {N} to {F} the {f}. "A big one!"
        """,
        """
        They found [wood|planks|branches] {sp1} and [rope|nails|string] {sp2}.
        {N} brought the [wood|planks|branches], and {F} brought the [rope|nails|string]. They worked all [day|morning].
        """,
        """
        But {N} was in a hurry and did not [tie the knots|listen|measure] well. In the [night|evening], the {build} fell down.
        But when they were almost done, the wind came and broke the {build} [into pieces|in two].
        """,
        """
        {N} was angry. "It is all your fault!" {he} said. {F} looked at the ground and said nothing.
        {N} sat down {sp3} and [sighed|cried]. "All that work for nothing," {he} said.
        """,
        """
        Then {F} said, "We know now what was wrong. Let us try again, but slowly."
        "A thing that falls can be built again," said {F}. "This time we will make it stronger."
        """,
        """
        They [tied every knot twice|measured everything twice|used thicker wood]. This time the {build} was [strong|straight and strong].
        They worked for three more days, and when it was done, the {build} was better than before.
        """,
    ],
    "strange sound": [
        """
        One night, {N} woke up. There was a strange sound {sp1}.
        Every night, {N} heard a [soft|strange|sad] sound. It came from somewhere {sp1}.
        """,
        """
        "[Tap, tap, tap|Hoo, hoo, hoo|Creak, creak, creak]," it went. "What can it be?" whispered {N}.
        {He} pulled the blanket over {his} head, but {he} could still hear it.
        """,
        """
        The next [night|evening], {he} asked {F} the {f} to come. They took a lantern and [walked|crept] outside.
        {N} took a lantern and went to wake {F} the {f}. "Come with me," {he} said. "I do not want to go alone."
        """,
        """
        They walked past the {sight}. [The moon was bright|It was very dark|A cold wind blew], and the sound came [closer and closer|nearer and nearer].
        {F} held the light up high. "It comes from there," {fe} whispered. "{sp2_C}!"
        """,
        """
        It was not a [monster|ghost] at all. It was a [small|young] {s} with a [hurt|sore] foot.
        And what did they find? It was only [an old gate in the wind|a loose window|a bottle in the wind|a branch on the roof].
        There sat a [small|young] {s}, who was [playing a drum|learning to sing|knocking on a nut].
        """,
        """
        {N} and {F} laughed so much that they had to sit down. After that, {N} slept very well.
        "How funny," said {N}. "In the dark, a small thing sounds so big." And they went home to bed.
        """,
    ],
    "quarrel": [
        """
        {N} and {F} the {f} did everything together. But one day they [found|saw] a {obj} {sp1}.
        One day, {N} and {F} the {f} found a {obj} {sp1}.
        """,
        """
        "It is mine!" said {N}. "No, I saw it first!" said {F}. They pulled and pulled until the {thing} [broke|fell into the mud].
        They both wanted to keep it. "Then I do not want to be your friend," said {N}, and {he} went home.
        """,
        """
        That evening {N} sat alone. The {food} did not taste good, and the house was too quiet.
        For three days they did not speak. {N} missed {F} [more and more|every hour].
        """,
        """
        "A {thing} is only a {thing}," thought {N}. "But a friend is a friend." So {he} went to find {F}.
        {N} [mended|washed|cleaned] the {thing} and [tied a ribbon on it|put it in a box]. Then {he} went to see {F}.
        """,
        """
        They met halfway, {sp2}, because {F} was coming to say sorry too.
        {F} opened the door. "I am sorry," said {N}. "I am sorry too," said {F}.
        """,
        """
        From then on, {N} had the {thing} [on Mondays and {F} had it on Tuesdays|one day and {F} had it the next].
        They gave the {thing} to a little {s} who had no toys, and all three of them played together.
        """,
    ],
    "surprise": [
        """
        It was {his} birthday, but nobody seemed to remember. {N} felt [sad|lonely|forgotten].
        {N} waited all morning for a birthday visit, but nobody came.
        """,
        """
        {He} went to see {F} the {f}, but {F} said, "I am too busy today," and shut the door.
        {He} met {F} the {f} {sp1}, but {F} only said hello and hurried away.
        """,
        """
        {N} walked {at} and looked at the {sight}. "Maybe they do not like me any more," {he} thought.
        So {N} sat down {sp2} all alone. A [tear|leaf] fell [on|into] {his} [hand|lap].
        """,
        """
        In the evening, {he} saw a light {sp3}. {He} went closer and closer.
        At sunset, a little {s} came running. "Come quickly," said the {s}. "Someone needs you {sp3}!"
        """,
        """
        "Surprise!" shouted everyone. There were {food}, [candles|lanterns|flowers] and [music|songs|games].
        There stood all {his} friends with {food} and [candles|lanterns|flowers]. "Happy birthday, {N}!" they sang.
        """,
        """
        {F} gave {him} a {obj}. "I was busy making this," {fe} said. {N} had never been so happy.
        "I had to keep the secret," said {F} [and laughed|with a grin]. {N} hugged {fim} and ate a lot of {food}.
        """,
    ],
    "treasure": [
        """
        One day, {N} found an old map {sp1}. There was a [red|black] cross on it.
        One day, an old {s} gave {N} a map. "It leads to a treasure," said the {s}.
        """,
        """
        {N} showed the map to {F} the {f}. "We must go at once!" said {F}.
        "Let us find it," said {F} the {f}. They packed some {food} and a [rope|lantern|blanket].
        """,
        """
        They went over the [hill|bridge|wall] and through the [trees|fog|tall grass]. They slept under the stars.
        The way was [long|hard|steep]. They had to cross a [stream|swamp|narrow bridge], and {N} [lost a shoe|got wet feet|nearly fell].
        """,
        """
        At last they came to the cross, {sp2}. They dug and dug until they hit [a wooden box|something hard].
        The cross was {sp2}. They dug with their hands, and soon they found [a wooden box|an iron box].
        """,
        """
        Inside there was no gold. There was only a {obj} and a letter. "The treasure is the way you walked together," it said.
        In the box lay [seeds|books|old letters|a small mirror], and not a single coin. {F} looked at {N}, and they both began to laugh.
        """,
        """
        They shared the last of the {food} and watched the [sun go down|stars come out]. It was the best day of all.
        "I would do it all again," said {N}. "So would I," said {F}.
        """,
    ],
    "seed": [
        """
        In spring, {N} found a [small|tiny|round] seed {sp1}. {He} put it in the ground {sp2}.
        An old {s} gave {N} a seed. "Take good care of it," said the {s}. {N} put it in the ground {sp2}.
        """,
        """
        Every day {he} gave it water and waited. Nothing happened.
        {He} gave it water on Monday. {He} gave it water on Tuesday. But there was nothing to see.
        """,
        """
        "It is only a stone," said {F} the {f}. But {N} shook {his} head and went on waiting.
        "You must be patient," said {F} the {f}. "Good things grow slowly."
        """,
        """
        Then one [warm|rainy|bright] morning, there was a small green leaf. {N} called everyone to come and look.
        After many weeks, something green came out of the ground. {N} [danced|shouted] for joy.
        """,
        """
        It grew and grew, until it was [a tall sunflower|a strong apple tree|a rose bush with a hundred roses].
        By summer it was as tall as {N}, and by autumn it was taller than the house.
        """,
        """
        {N} gave [a flower|a seed|some of the fruit] to everyone {at}, and soon the whole place was full of colour.
        In autumn, {N} took a new seed and gave it to a little {s}. "Take good care of it," {he} said.
        """,
    ],
    "truth": [
        """
        One day, {N} was playing with a ball {sp1}. [Crash!|Bang!] The ball broke {F_s} [window|blue vase|best plate|flower pot].
        {F} the {f} had made some {food} for the feast. {N} wanted only a little bite, but soon all of it was gone.
        """,
        """
        {N} looked left and right. Nobody had seen it. {He} ran home and shut the door.
        "Nobody will ever know," thought {N}, and {he} hid {sp2}.
        """,
        """
        Soon {F} came out. "Who did this?" {fe} asked [sadly|in a sad voice]. "I think it was the {s}," said {N}.
        In the evening everyone was asking who had done it. {N} said nothing and looked at {his} feet.
        """,
        """
        But that night {N} could not sleep. {His} stomach hurt, and it was not from the food.
        But {N} felt [heavy|bad|terrible], as if {he} had swallowed a stone.
        """,
        """
        In the morning, {he} went to {F}. "It was me," {he} said [quietly|in a small voice]. "I am sorry."
        At last {he} could not bear it. "It was me," {he} told {F}. "I was afraid to say so."
        """,
        """
        {F} was [quiet|silent] for a moment. "Thank you for telling the truth," {fe} said. "Now help me to make it good again."
        {F} was [a little angry|sad], but {fe} took {his} hand. "It is hard to tell the truth," {fe} said. "I am glad you did."
        """,
    ],
    "race": [
        """
        Every [summer|spring|autumn], there was a great race {at}. This year {N} wanted to win.
        There was going to be a race {at}. The prize was a {obj}.
        """,
        """
        "You are too slow," said {F} the {f}. "I will win, as always."
        {F} the {f} was the fastest of all. "Nobody can beat me," {fe} said.
        """,
        """
        "One, two, three, go!" They ran past the {sight}. {F} was first, and {N} was last.
        The race began. {F} ran like the wind, and soon {N} was far behind.
        """,
        """
        But {sp1} {F} [fell|slipped|tripped over a root] and hurt {fis} [foot|knee|leg].
        Then {N} came round the corner and saw {F} on the ground, {sp1}. {Fe} could not stand up.
        """,
        """
        {N} could have won. But {he} stopped and said, "Put your arm around me. We will go together."
        {N} looked at the finish and then at {F}. {He} stopped and helped {fim} up.
        """,
        """
        They came in last of all, but everyone [clapped|cheered]. "That is how a winner looks," said the old {s}.
        A {s} won the {obj}, but {N} won a friend, and {he} was very happy with that.
        """,
    ],
    "light": [
        """
        One [night|evening], the [great lamp|lantern] {sp1} went out, and it was very dark.
        Every night, {N} lit the lamp {sp1} so that nobody would lose the way. But one night there was no oil.
        """,
        """
        {N} knew that {F} the {f} was still out [in the fog|in the storm|on the road]. "{Fe} will never find the way," {he} thought.
        Someone was calling from far away. It was {F} the {f}! {Fe} could not see where to go.
        """,
        """
        {N} ran from door to door. "Bring every [candle|light|lamp] you have!" {he} cried.
        {N} had only one small candle. {He} held it up as high as {he} could.
        """,
        """
        One by one, the neighbours came with [candles|lamps|lanterns]. Soon there was a long line of lights.
        A {s} saw it and lit a candle too. Then another came, and another, until there were a hundred little lights.
        """,
        """
        Far away, {F} saw the lights. {Fe} turned around and came home, slowly and safely.
        "I see you!" called {F}. And step by step, {fe} followed the lights home.
        """,
        """
        "One light is small," said {N}, "but many lights are like the sun."
        They all drank [warm milk|hot soup] together, and nobody wanted to put out the lights.
        """,
    ],
    "hurt bird": [
        """
        One [morning|day|afternoon], {N} found a [small|white|blue] bird {sp1}. Its wing was hurt.
        After the [storm|rain|wind], a [small|white|blue] bird lay {sp1}. It could not fly.
        """,
        """
        {N} picked it up [gently|carefully|softly] and carried it home. {He} made a nest from a {obj_soft}.
        "Do not be afraid," whispered {N}. {He} put the bird in a box with a {obj_soft}.
        """,
        """
        Every day {he} gave it [seeds|crumbs|water] and sang to it. {F} the {f} came to help.
        {F} the {f} knew about birds. "It needs rest and quiet," {fe} said. "Then it will fly again."
        """,
        """
        The days went by, and the bird grew stronger. It began to [sing|hop|eat] in the mornings.
        After [two weeks|ten days|a month], the bird [moved its wing|hopped onto the window|flew across the room].
        """,
        """
        {N} knew that it was time to say goodbye. {He} opened the window, and the bird flew up into the [blue|wide|evening] sky.
        "You must go now," said {N}. It was hard, but {he} opened {his} hands, and the bird flew away.
        """,
        """
        The next spring, there was a song outside {his} window. The bird had come back with a family of its own.
        And sometimes, in the early morning, {he} could still hear it sing.
        """,
    ],
    "new neighbour": [
        """
        One day, a new neighbour moved in {sp1}. It was {F}, {a_friend}.
        One day, {a_friend} came to live {sp1}. {Fis} name was {F}.
        """,
        """
        {F} did not [speak|smile] much, and the others said that {fe} was [rude|strange|proud].
        "{Fe} never says hello," said the {s}. "{Fe} must be [rude|strange|proud]."
        """,
        """
        But {N} thought, "Maybe {fe} is only shy." So {he} [baked|packed|took] some {food} and knocked on the door.
        {N} did not believe it. {He} knocked on the door with some {food} in {his} hands.
        """,
        """
        The door opened just a little. "Hello," said {N}. "I am {N}. Do you like {food}?"
        At first nobody came. Then the door opened, and {F} looked out. "Is that for me?" {fe} asked.
        """,
        """
        {F} [smiled|laughed] for the first time. "I did not know how to say hello," {fe} said.
        "I come from far away," said {F}. "I do not know anybody here." They talked until it was dark.
        """,
        """
        The next day, {N} and {F} walked {at} together, and soon everybody wanted to be friends with {F}.
        Now {F} has many friends, but {fe} likes {N} best of all.
        """,
    ],
    "gift": [
        """
        It was almost {his} grandmother's birthday, and {N} had no [money|coins] for a gift.
        {N} wanted to give {his} mother something special, but {he} had no [money|coins].
        """,
        """
        {He} asked {F} the {f}. "Give something that you made yourself," said {F}.
        "What can I give?" {he} asked {F} the {f}. "Give her something from your heart," said {F}.
        """,
        """
        So {N} went to look for [shells|flowers|feathers|round stones]. {He} found some {sp1} and some {sp2}.
        {N} looked {sp1} and found [a smooth stone|three feathers|a piece of wood]. {He} had an idea.
        """,
        """
        {He} worked in secret every evening. {He} [cut|painted|tied|glued] and [cut|painted|tied|glued] until {his} fingers were tired.
        All week {he} sat by the lamp and worked. It was not perfect, but it was {his} own work.
        """,
        """
        When the day came, {N} was [nervous|shy]. "It is only a little thing," {he} said.
        On the morning of the birthday, {he} put it on the table next to the {food}.
        """,
        """
        She looked at it for a long time, and there were tears in her eyes. "It is the best gift I ever had," she said.
        "You made this for me?" she asked, and she held {him} [close|very tight]. It still stands beside her bed.
        """,
    ],
}

# In these plots the friend is met, or is a rival, so no sentence may call them old friends beforehand.
STRANGERS_AT_FIRST = frozenset({"new neighbour", "race"})

ENDINGS = """
And {N} never forgot that day.
From that day on, {N} and {F} were the best of friends.
And they lived happily ever after.
That night {N} slept [very well|deeply] and dreamed of [{place}|the stars|the sea|tomorrow].
And if you walk {at} today, you may still [meet|see|hear] {N}.
{N} learned that [a friend is worth more than gold|a kind word costs nothing|small steps go a long way|it is good to share|it is brave to ask for help].
And that was the end of a very [long|good|strange] day.
"Tomorrow," said {N}, "we will do it again." And they did.
Then {he} went home, [ate some {food}|sat by the fire|closed the door] and was happy.
The [stars|moon|evening sun] shone over {place}, and all was well.
"""

REQUESTS = """
Tell me a story about a {h}.
Tell me a story about a {h} [named|called] {N}.
[Please tell|Tell] me a [short |]story about {N} the {h}.
[Please write|Write] a [short |]story about a {hadj} {h}.
[Please write|Write] a [short |]story about {N} and {F}.
[Please tell|Tell] me a story about a {h} and a {f}.
Can you tell me a story about a {h}?
I [want|would like] a story about {N}.
A story about {N} the {h} {at}.
Tell me about {N}.
Tell me about {place}.
Write a story {at}.
tell me a story about a {h}
write a story about {N}
a story about a {h} and a {f}
"""

SYLLABLES = words(
    "za bo ri ka lu mi to ne va sha do fi gor len pa qui ro su tar ul vin wex yo zan ba cor del ex fa hil jo kel lor "
    "mar nix ob pel ra sol tri um bri dra el gri"
)
SOFT_THINGS = phrases("soft scarf|warm sock|woollen hat|soft blanket|piece of wool|handful of moss")

Node = str | tuple[str, object]


@functools.cache
def parse(template: str) -> tuple[Node, ...]:
    """Read a template once: plain text, ("slot", name) and ("pick", alternatives)."""
    nodes, end = _parse_until(template, 0, stops="")
    assert end == len(template), f"a ] or | without its [ in: {template}"
    return nodes


def _parse_until(template: str, at: int, *, stops: str) -> tuple[tuple[Node, ...], int]:
    nodes: list[Node] = []
    plain = ""
    while at < len(template) and template[at] not in stops:
        mark = template[at]
        if mark not in "{[":
            plain += mark
            at += 1
            continue
        if plain:
            nodes.append(plain)
            plain = ""
        if mark == "{":
            close = template.index("}", at)
            nodes.append(("slot", template[at + 1 : close]))
            at = close + 1
        else:
            alternatives = []
            while template[at] != "]":
                alternative, at = _parse_until(template, at + 1, stops="|]")
                alternatives.append(alternative)
            nodes.append(("pick", tuple(alternatives)))
            at += 1
    if plain:
        nodes.append(plain)
    return tuple(nodes), at


def expand(nodes: tuple[Node, ...], slots: dict[str, str], dice: random.Random) -> str:
    parts: list[str] = []
    for node in nodes:
        if isinstance(node, str):
            parts.append(node)
        elif node[0] == "slot":
            parts.append(slots[node[1]])  # type: ignore[index]
        else:
            parts.append(expand(dice.choice(node[1]), slots, dice))  # type: ignore[arg-type]
    return "".join(parts)


@functools.cache
def lines_of(block: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in block.strip().splitlines())


def say(block: str, slots: dict[str, str], dice: random.Random) -> str:
    return expand(parse(dice.choice(lines_of(block))), slots, dice)


def capital(phrase: str) -> str:
    return phrase[:1].upper() + phrase[1:]


def cast_member(dice: random.Random, *, taken: set[str], invented: bool) -> tuple[str, str, str, bool]:
    """Draw (name, kind, adjective, is she) with a name and a kind that the story does not use yet."""
    draw = dice.random()
    is_she = dice.random() < 0.5
    if draw < 0.62:
        kind, adjective = dice.choice(ANIMALS), dice.choice(ANIMAL_ADJECTIVES)
    elif draw < 0.82:
        kind, adjective = ("girl" if is_she else "boy"), dice.choice(CHILD_ADJECTIVES)
    else:
        kind, adjective = dice.choice(TRADES), dice.choice(TRADE_ADJECTIVES)
    if invented:
        name = capital("".join(dice.choice(SYLLABLES) for _ in range(dice.randint(2, 3))))
    else:
        name = dice.choice(SHE_NAMES if is_she else HE_NAMES)
    if name in taken or kind in taken:
        return cast_member(dice, taken=taken, invented=invented)
    taken |= {name, kind}
    return name, kind, adjective, is_she


def draw_slots(dice: random.Random, *, invented: bool) -> dict[str, str]:
    """Everything that must stay the same from the first sentence of a story to its last."""
    taken: set[str] = set()
    slots: dict[str, str] = {}
    name, kind, adjective, is_she = cast_member(dice, taken=taken, invented=invented)
    slots |= {"N": name, "h": kind, "hadj": adjective, "a_hero": f"a {adjective} {kind}"}
    slots |= {"he": "she", "his": "her", "him": "her"} if is_she else {"he": "he", "his": "his", "him": "him"}
    slots |= {"He": capital(slots["he"]), "His": capital(slots["his"])}
    name, kind, adjective, is_she = cast_member(dice, taken=taken, invented=invented and dice.random() < 0.3)
    slots |= {"F": name, "F_s": f"{name}'s", "f": kind, "a_friend": f"a {adjective} {kind}"}
    slots |= {"fe": "she", "fis": "her", "fim": "her"} if is_she else {"fe": "he", "fis": "his", "fim": "him"}
    slots |= {"Fe": capital(slots["fe"]), "Fis": capital(slots["fis"])}
    animal = dice.choice([animal for animal in ANIMALS if animal not in taken])
    slots |= {"s": animal} | dice.choice([{"se": "she", "sim": "her"}, {"se": "he", "sim": "him"}])

    ground = dice.choice(sorted(PLACES))
    leading, adjectives, sights, spots = PLACES[ground]
    slots["place"] = f"the {dice.choice(words(adjectives))} {ground}"
    slots["at"] = f"{leading} {slots['place']}"
    slots["At"] = capital(slots["at"])
    slots["sight"] = dice.choice(phrases(sights))
    for number, spot in enumerate(dice.sample(phrases(spots), 3), start=1):
        slots |= {f"sp{number}": spot, f"sp{number}_C": capital(spot)}
    slots["thing"] = dice.choice(OBJECTS)
    slots["obj"] = f"{dice.choice(OBJECT_ADJECTIVES)} {slots['thing']}"
    slots["obj_soft"] = dice.choice(SOFT_THINGS)
    slots |= {"food": dice.choice(FOODS), "skill": dice.choice(SKILLS)}
    slots |= {"fear": dice.choice(FEARS), "build": dice.choice(BUILDS)}
    return slots


def story(seed: int) -> str:
    """The story of this seed: the same seed gives the same text on every machine."""
    dice = random.Random(seed)
    is_asked_for = dice.random() < 0.2
    slots = draw_slots(dice, invented=is_asked_for and dice.random() < 0.5)
    parts = [say(OPENINGS, slots, dice)]
    plot = dice.choice(sorted(PLOTS))
    introductions = [
        line for line in lines_of(INTRODUCTIONS) if "{F}" not in line or plot not in STRANGERS_AT_FIRST
    ]
    for introduction in dice.sample(introductions, dice.choice([0, 1, 1, 2])):
        parts.append(expand(parse(introduction), slots, dice))
    parts += [say(beat, slots, dice) for beat in PLOTS[plot]]
    if dice.random() < 0.8:
        endings = [line for line in lines_of(ENDINGS) if "{F}" not in line or slots["F"] in " ".join(parts)]
        parts.append(expand(parse(dice.choice(endings)), slots, dice))
    text = parts[0]
    for part in parts[1:]:
        text += ("\n" if dice.random() < 0.15 else " ") + part
    text = introduce(text, slots)
    if is_asked_for:
        requests = [
            line
            for line in lines_of(REQUESTS)
            if ("{F}" not in line and "{f}" not in line) or slots["F"] in text
        ]
        text = expand(parse(dice.choice(requests)), slots, dice) + "\n" + text
    return fix_articles(text)


def introduce(text: str, slots: dict[str, str]) -> str:
    """Say what the friend is at the first mention, where the sentence that was drawn does not."""
    before, name, after = text.partition(slots["F"])
    if name and not after.startswith(f" the {slots['f']}") and slots["a_friend"] not in before + after[:40]:
        return f"{before}{name} the {slots['f']}{after}"
    return text


def fix_articles(text: str) -> str:
    """Write `an old owl`, not `a old owl`; no word here begins with a vowel that sounds like a consonant."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


@functools.cache
def dictionary(stories: int = 2000) -> frozenset[str]:
    """Every lower-case word that the grammar is seen to use, invented names left out."""
    tales = (story(FIRST_HELD_OUT_SEED + 10_000_000 + number) for number in range(stories))
    plain = (tale for tale in tales if "story" not in tale.partition("\n")[0].lower())
    return frozenset(word for tale in plain for word in re.findall(r"[a-z]+", tale.lower()))


if __name__ == "__main__":
    for seed in range(FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + 8):
        print(story(seed), end="\n\n")
