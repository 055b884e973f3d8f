/* The rules of the games and what is seen of them, many games at a time. `reference.py`, `bricks.py` and `orchard.py`
   are the same in NumPy, and stay the reference: tests/envs/games/test_compiled.py holds every bit here to them.

   All rules are in whole numbers. A game is a row of S words: H that are drawn, the same as they were one, two and
   three steps ago, the game's own, then the steps so far and the two halves of its generator. Lengths are in units of 1/64
   pixel of the small picture; a step is three ticks. n games. */

#include <stdint.h>
#include <string.h>

enum { UNIT = 64, SIDE = 84, CELLS = 12, CELL = SIDE / CELLS * UNIT, FRAMES = 4, CHANNELS = 4, TICKS = 3 };

/* The next number below `below` of a generator: splitmix64 (Steele, Lea, Flood 2014), its upper half scaled. */
static int32_t draw(int32_t *generator, uint32_t below)
{
    uint64_t z;
    memcpy(&z, generator, sizeof z);
    z += 0x9E3779B97F4A7C15u;
    memcpy(generator, &z, sizeof z);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (int32_t)(((z >> 32) * below) >> 32);
}

static int32_t clip(int32_t x, int32_t low, int32_t high) { return x < low ? low : x > high ? high : x; }

/* A thing that moved to x, reflected where it has left [low, high]. */
static int32_t reflected(int32_t x, int32_t *velocity, int32_t low, int32_t high)
{
    if (x >= low && x <= high) return x;
    *velocity = -*velocity;
    return x < low ? 2 * low - x : 2 * high - x;
}

/* -- Bricks: see bricks.py */

enum { PADDLE, BALL_X, BALL_Y, WALL, LIVES, BRICKS_DRAWN, VX = FRAMES * BRICKS_DRAWN, VY, B_STEPS, B_GENERATOR };
enum { COLUMNS = 6, BRICK = 14 * UNIT, WALL_TOP = 2, WALL_BOTTOM = 5, ALL_BRICKS = (1 << 18) - 1, ALL_LIVES = 7 };
enum { BALL = 3 * UNIT, ROOF = 7 * UNIT, FLOOR = 77 * UNIT, WIDTH = 14 * UNIT, SPEED = 96, PUSH = 160 };
static const int32_t ANGLES[6] = {-128, -80, -32, 32, 80, 128}, SERVES[4] = {-80, -32, 32, 80};

static void serve(int32_t *s)
{
    s[BALL_X] = 10 * UNIT + draw(s + B_GENERATOR, 61 * UNIT);
    s[BALL_Y] = 42 * UNIT;
    s[VX] = SERVES[draw(s + B_GENERATOR, 4)];
    s[VY] = SPEED;
}

static void bricks_begin(int32_t *s)
{
    s[PADDLE] = (SIDE * UNIT - WIDTH) / 2;
    s[WALL] = ALL_BRICKS;
    s[LIVES] = ALL_LIVES;
    serve(s);
}

static int32_t bricks_tick(int32_t *s, int32_t push)
{
    int32_t reward = 0;
    s[PADDLE] = clip(s[PADDLE] + push, 0, SIDE * UNIT - WIDTH);
    int32_t x = reflected(s[BALL_X] + s[VX], s + VX, 0, SIDE * UNIT - BALL);
    int32_t y = reflected(s[BALL_Y] + s[VY], s + VY, ROOF, 2 * SIDE * UNIT); /* it leaves below */
    int32_t row = (y + BALL / 2) / CELL, column = (x + BALL / 2) / BRICK;
    if (row >= WALL_TOP && row < WALL_BOTTOM) {
        int32_t brick = 1 << clip((row - WALL_TOP) * COLUMNS + column, 0, 17);
        if (s[WALL] & brick) {
            s[WALL] ^= brick;
            reward = 1;
            if ((s[BALL_Y] + BALL / 2) / CELL != row) s[VY] = -s[VY];
            else s[VX] = -s[VX];
            x = s[BALL_X], y = s[BALL_Y];
        }
    }
    int32_t reach = x + BALL - s[PADDLE]; /* 0 where the ball's right edge is at the paddle's left one */
    if (s[VY] > 0 && y + BALL >= FLOOR && y < FLOOR + BALL && reach > 0 && reach < WIDTH + BALL) {
        y = FLOOR - BALL;
        s[VX] = ANGLES[reach * 6 / (WIDTH + BALL)];
        s[VY] = -SPEED;
    }
    s[BALL_X] = x, s[BALL_Y] = y;
    if (y >= SIDE * UNIT) {
        s[LIVES] >>= 1;
        serve(s);
    }
    return reward;
}

static int32_t bricks_play(int32_t *s, int32_t action, int64_t endless, uint8_t *terminated)
{
    static const int32_t pushes[3] = {0, -PUSH, PUSH};
    int32_t reward = 0;
    for (int t = 0; t < TICKS; t++) reward += bricks_tick(s, pushes[action]);
    if (endless && !s[LIVES]) s[LIVES] = ALL_LIVES;
    if (endless && !s[WALL]) s[WALL] = ALL_BRICKS;
    *terminated = !s[LIVES] || !s[WALL];
    return reward;
}

/* -- Orchard: see orchard.py */

enum { PLAYER_X, PLAYER_Y, SAFE, FRUITS, CLOCK, BEES, ORCHARD_DRAWN = BEES + 6, FLIGHT = FRAMES * ORCHARD_DRAWN };
enum { HEADING = FLIGHT + 6, LEFT, O_STEPS, O_GENERATOR };
enum { PLAYER = 5 * UNIT, FRUIT = 4 * UNIT, BEE = 4 * UNIT, WALK = 80, SAFE_TICKS = 30, LIGHTS = 12, WHOLE = 1024 };
enum { TIME = 240 };
static const int32_t DIRECTIONS[8][2] = {
    {48, 0}, {34, 34}, {0, 48}, {-34, 34}, {-48, 0}, {-34, -34}, {0, -48}, {34, -34},
};

static void fly(int32_t *s, int bee, int32_t direction) { memcpy(s + FLIGHT + 2 * bee, DIRECTIONS[direction], 8); }

static void orchard_begin(int32_t *s)
{
    int32_t *generator = s + O_GENERATOR;
    s[PLAYER_X] = draw(generator, SIDE * UNIT - PLAYER);
    s[PLAYER_Y] = ROOF + draw(generator, SIDE * UNIT - PLAYER - ROOF);
    s[SAFE] = SAFE_TICKS;
    s[FRUITS] = 0xffff;
    for (int row = 0; row < 4; row++) s[FRUITS] ^= 1 << (4 * row + draw(generator, 4));
    for (int bee = 0; bee < 3; bee++) {
        s[BEES + 2 * bee] = draw(generator, SIDE * UNIT - BEE);
        s[BEES + 2 * bee + 1] = ROOF + draw(generator, SIDE * UNIT - BEE - ROOF);
        fly(s, bee, draw(generator, 8));
    }
    s[HEADING] = 8;
    s[CLOCK] = (1 << LIGHTS) - 1;
    s[LEFT] = WHOLE;
}

static int meet(int32_t x, int32_t y, int32_t size, int32_t left, int32_t top)
{
    return x + PLAYER > left && x < left + size && y + PLAYER > top && y < top + size;
}

static int32_t orchard_tick(int32_t *s, int32_t right, int32_t down)
{
    int32_t reward = 0, stung = 0;
    int32_t x = s[PLAYER_X] = clip(s[PLAYER_X] + right, 0, SIDE * UNIT - PLAYER);
    int32_t y = s[PLAYER_Y] = clip(s[PLAYER_Y] + down, ROOF, SIDE * UNIT - PLAYER);
    for (int k = 0; k < 16; k++)
        if (s[FRUITS] >> k & 1 && meet(x, y, FRUIT, (10 + 20 * (k % 4)) * UNIT, (16 + 19 * (k / 4)) * UNIT)) {
            s[FRUITS] ^= 1 << k;
            reward++;
        }
    for (int bee = 0; bee < 3; bee++) {
        int32_t *at = s + BEES + 2 * bee, *velocity = s + FLIGHT + 2 * bee;
        at[0] = reflected(at[0] + velocity[0], velocity, 0, SIDE * UNIT - BEE);
        at[1] = reflected(at[1] + velocity[1], velocity + 1, ROOF, SIDE * UNIT - BEE);
        stung |= meet(x, y, BEE, at[0], at[1]);
    }
    if (s[SAFE] > 0) s[SAFE]--;
    else if (stung) {
        s[SAFE] = SAFE_TICKS;
        reward--;
    }
    return reward;
}

static int32_t orchard_play(int32_t *s, int32_t action)
{
    static const int32_t walks[5][2] = {{0, 0}, {0, -WALK}, {0, WALK}, {-WALK, 0}, {WALK, 0}};
    int32_t reward = 0;
    if (action) s[HEADING] = 1 << (action - 1);
    for (int bee = 0; bee < 3; bee++) {
        int32_t direction = draw(s + O_GENERATOR, 128);
        if (direction < 8) fly(s, bee, direction);
    }
    for (int t = 0; t < TICKS; t++) reward += orchard_tick(s, walks[action][0], walks[action][1]);
    int32_t steps = clip(s[O_STEPS], 0, TIME - 1) + 1;
    s[LEFT] = WHOLE - WHOLE * steps / TIME;
    s[CLOCK] = (1 << (LIGHTS - LIGHTS * steps / TIME)) - 1;
    return reward;
}

/* -- all games; which: 0 Bricks, 1 Orchard */

typedef struct {
    int64_t which, words, drawn;
    int64_t limit;   /* steps of an episode, 0 for any number */
    int64_t endless; /* Bricks: lives and wall come back */
} Game;

static void begin(const Game *game, int32_t *s)
{
    s[game->words - 3] = 0;
    if (game->which) orchard_begin(s);
    else bricks_begin(s);
    for (int frame = 1; frame < FRAMES; frame++) memcpy(s + frame * game->drawn, s, game->drawn * sizeof *s);
}

void games_begin(const Game *game, int64_t n, int32_t *states, const uint8_t *mask)
{
    for (int64_t i = 0; i < n; i++)
        if (mask[i]) begin(game, states + i * game->words);
}

/* Games that end are copied to their rows of `last` and begin again, unless `last` is null. */
void games_step(
    const Game *game, int64_t n, int32_t *states, const int64_t *actions, double *rewards, uint8_t *terminated,
    uint8_t *truncated, int32_t *last)
{
    for (int64_t i = 0; i < n; i++) {
        int32_t *s = states + i * game->words, *steps = s + game->words - 3;
        memmove(s + game->drawn, s, (FRAMES - 1) * game->drawn * sizeof *s);
        terminated[i] = 0;
        rewards[i] = game->which ? orchard_play(s, (int32_t)actions[i])
                                 : bricks_play(s, (int32_t)actions[i], game->endless, terminated + i);
        truncated[i] = ++*steps >= game->limit && game->limit;
        if (last && (terminated[i] || truncated[i])) {
            memcpy(last + i * game->words, s, game->words * sizeof *s);
            begin(game, s);
        }
    }
}

/* -- what is seen */

typedef struct { int32_t word, shift, mask, offset, scale; } Number;
typedef struct { int32_t x_word, y_word, x, y, width, height, grey, word, shift, mask, channel, trail; } Sprite;

static int shown(const Sprite *p, const int32_t *s) { return p->word < 0 || (s[p->word] >> p->shift & p->mask); }
static int64_t left_of(const Sprite *p, const int32_t *s) { return p->x + (p->x_word < 0 ? 0 : (int64_t)s[p->x_word]); }
static int64_t top_of(const Sprite *p, const int32_t *s) { return p->y + (p->y_word < 0 ? 0 : (int64_t)s[p->y_word]); }
static int64_t within(int64_t x) { return x < 0 ? 0 : x > SIDE ? SIDE : x; }

/* (n, count) */
void games_numbers(int64_t n, int64_t words, const int32_t *states, int64_t count, const Number *numbers, float *out)
{
    for (int64_t i = 0; i < n; i++, states += words)
        for (int64_t k = 0; k < count; k++) {
            const Number *p = numbers + k;
            *out++ = (float)((states[p->word] >> p->shift & p->mask) - p->offset) / (float)p->scale;
        }
}

/* (SIDE, SIDE, FRAMES), the newest frame last. What looks the same in all frames is painted in all of them at once. */
static void paint(int64_t drawn, const int32_t *s, const Sprite *p, uint8_t *out)
{
    int64_t box[FRAMES][4];
    int same = 1;
    for (int frame = 0; frame < FRAMES; frame++) {
        const int32_t *then = s + (FRAMES - 1 - frame) * drawn;
        int64_t left = left_of(p, then) >> 6, top = top_of(p, then) >> 6, on = shown(p, then);
        box[frame][0] = within(left), box[frame][1] = within(top);
        box[frame][2] = on ? within(left + p->width / UNIT) : 0;
        box[frame][3] = on ? within(top + p->height / UNIT) : 0;
        same &= !memcmp(box[frame], box[0], sizeof *box);
    }
    if (same) {
        uint32_t *pixels = (uint32_t *)out, grey = 0x01010101u * (uint32_t)p->grey;
        for (int64_t y = box[0][1]; y < box[0][3]; y++)
            for (int64_t x = box[0][0]; x < box[0][2]; x++) pixels[y * SIDE + x] = grey;
        return;
    }
    for (int frame = 0; frame < FRAMES; frame++)
        for (int64_t y = box[frame][1]; y < box[frame][3]; y++)
            for (int64_t x = box[frame][0]; x < box[frame][2]; x++)
                out[(y * SIDE + x) * FRAMES + frame] = (uint8_t)p->grey;
}

void games_pixels(
    int64_t n, int64_t words, const int32_t *states, int64_t drawn, int64_t count, const Sprite *sprites, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++, states += words, out += SIDE * SIDE * FRAMES) {
        memset(out, 0, SIDE * SIDE * FRAMES);
        for (int64_t k = 0; k < count; k++) paint(drawn, states, sprites + k, out);
    }
}

/* How much of each cell (CELLS, CELLS, CHANNELS) a sprite covers, of 255, added to its channel. Sides that are shorter
   than a cell's count as so long. */
static void cover(const int32_t *s, const Sprite *p, int32_t channel, uint8_t *out)
{
    if (channel < 0 || !shown(p, s)) return;
    int64_t width = p->width < CELL ? CELL : p->width, height = p->height < CELL ? CELL : p->height;
    int64_t left = left_of(p, s) - (width - p->width) / 2, top = top_of(p, s) - (height - p->height) / 2;
    int64_t right = left + width, bottom = top + height;
    for (int64_t y = 0; y < CELLS; y++) {
        int64_t high = (bottom < (y + 1) * CELL ? bottom : (y + 1) * CELL) - (top > y * CELL ? top : y * CELL);
        for (int64_t x = 0; high > 0 && x < CELLS; x++) {
            int64_t wide = (right < (x + 1) * CELL ? right : (x + 1) * CELL) - (left > x * CELL ? left : x * CELL);
            if (wide <= 0) continue;
            uint8_t *cell = out + (y * CELLS + x) * CHANNELS + channel;
            int64_t sum = *cell + 255 * high * wide / (CELL * CELL);
            *cell = (uint8_t)(sum > 255 ? 255 : sum);
        }
    }
}

void games_planes(
    int64_t n, int64_t words, const int32_t *states, int64_t drawn, int64_t count, const Sprite *sprites, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++, states += words, out += CELLS * CELLS * CHANNELS) {
        memset(out, 0, CELLS * CELLS * CHANNELS);
        for (int64_t k = 0; k < count; k++) {
            cover(states, sprites + k, sprites[k].channel, out);
            cover(states + drawn, sprites + k, sprites[k].trail, out); /* where it was a step ago */
        }
    }
}
