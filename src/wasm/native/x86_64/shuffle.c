/* Permutations of bytes: i8x16.shuffle, i8x16.swizzle by a constant, rotations by whole bytes. Everything is brought
 * into one form - where each byte of the result comes from - and the first instruction that does exactly that is taken;
 * what no single instruction does is put together from two permutations. */
#include "vector.h"

enum { ZERO = 0x80 }; /* a byte from nowhere; vpshufb makes it 0 */

struct plan {
    ref left, right;  /* right 0: one source */
    uint8_t from[16]; /* below 16 left, below 32 right, or ZERO */
    enum {
        PLAN_COPY,
        PLAN_UNARY,  /* code result, left */
        PLAN_SHIFT,  /* whole-register shift by imm bytes, digit in `digit` */
        PLAN_BINARY, /* code result, left, right */
        PLAN_BLENDV, /* byte by byte */
        PLAN_DWORDS, /* two vpshufd, blended */
        PLAN_BYTES,  /* vpshufb, one for each source */
        PLAN_ZERO,
    } how;
    enum vector_code code;
    bool has_imm;
    uint8_t imm, digit;
};

/* ---- what to permute ---- */

ref x86_byte_rotation(const struct fn *f, const struct ins *i, uint8_t lanes[16]) {
    if (i->op != OP_V128_OR) return 0;
    const struct ins *x = &f->ins.v[i->a], *y = &f->ins.v[i->b];
    static const uint16_t shl[3] = {OP_I16X8_SHL, OP_I32X4_SHL, OP_I64X2_SHL},
                          shr[3] = {OP_I16X8_SHR_U, OP_I32X4_SHR_U, OP_I64X2_SHR_U};
    for (unsigned k = 0; k < 3; k++) {
        unsigned bytes = 2u << k, bits = 8 * bytes;
        const struct ins *l = x->op == shl[k] ? x : y, *r = x->op == shl[k] ? y : x;
        int32_t m, n;
        if (l->op != shl[k] || r->op != shr[k] || l->a != r->a || !x86_imm(f, l->b, false, &m) ||
            !x86_imm(f, r->b, false, &n))
            continue;
        unsigned left = (unsigned)m % bits, right = (unsigned)n % bits;
        if (!left || left % 8 || left + right != bits) return 0;
        for (unsigned b = 0; b < 16; b++)
            lanes[b] = (uint8_t)(b / bytes * bytes + (b + right / 8) % bytes);
        return l->a;
    }
    return 0;
}

static const uint8_t *constant_bytes(const struct fn *f, ref v) {
    return f->ins.v[v].op == IR_CONST128 ? f->vectors.v + 16 * f->ins.v[v].imm : NULL;
}

bool x86_is_shuffle(const struct fn *f, const struct ins *i) {
    uint8_t lanes[16];
    if (i->op == OP_I8X16_SHUFFLE) return true;
    if (i->op == OP_I8X16_SWIZZLE || i->op == OP_I8X16_RELAXED_SWIZZLE) return constant_bytes(f, i->b);
    return x86_byte_rotation(f, i, lanes) != 0;
}

/* Zeros of a constant operand come from nowhere; an operand nothing comes from is no operand. */
static void drop_operands(const struct fn *f, struct plan *p) {
    unsigned from_left = 0, from_right = 0;
    if (p->left == p->right)
        for (unsigned k = 0; k < 16; k++)
            if (p->from[k] < 32) p->from[k] &= 15;
    const uint8_t *bytes[2] = {constant_bytes(f, p->left), p->right ? constant_bytes(f, p->right) : NULL};
    for (unsigned k = 0; k < 16; k++) {
        uint8_t l = p->from[k];
        if (l == ZERO) continue;
        if (bytes[l >> 4] && bytes[l >> 4][l & 15] == 0)
            p->from[k] = ZERO;
        else if (l < 16)
            from_left++;
        else
            from_right++;
    }
    if (from_right && !from_left) {
        p->left = p->right;
        for (unsigned k = 0; k < 16; k++)
            if (p->from[k] != ZERO) p->from[k] -= 16;
    }
    if (!from_left || !from_right) p->right = 0;
    if (!from_left && !from_right) p->left = 0;
}

static void exchange(struct plan *p) {
    ref t = p->left;
    p->left = p->right;
    p->right = t;
    for (unsigned k = 0; k < 16; k++)
        if (p->from[k] != ZERO) p->from[k] ^= 16;
}

/* ---- recognising ---- */

static bool choose(struct plan *p, int how, enum vector_code code) {
    p->how = how;
    p->code = code;
    return true;
}
static bool choose_imm(struct plan *p, int how, enum vector_code code, unsigned imm) {
    p->has_imm = true;
    p->imm = (uint8_t)imm;
    return choose(p, how, code);
}

/* Whole lanes of `bytes` bytes: which lane each one comes from (2 * 16 / bytes of them), or false. */
static bool whole_lanes(const struct plan *p, unsigned bytes, uint8_t lane[16]) {
    for (unsigned k = 0; k < 16 / bytes; k++) {
        uint8_t l = p->from[k * bytes];
        if (l == ZERO || l % bytes) return false;
        for (unsigned b = 1; b < bytes; b++)
            if (p->from[k * bytes + b] != l + b) return false;
        lane[k] = (uint8_t)(l / bytes);
    }
    return true;
}

/* Interleaving the low or high halves of left with right (or with itself). */
static bool is_interleave(const struct plan *p, unsigned bytes, unsigned base) {
    for (unsigned k = 0; k < 16; k++) {
        unsigned c = k / bytes, l = base + c / 2 * bytes + k % bytes;
        if ((c & 1) && p->right) l += 16;
        if (p->from[k] != l) return false;
    }
    return true;
}

/* Zero extension of lanes. */
static bool plan_extend(struct plan *p) {
    static const struct {
        uint8_t from, to;
        uint16_t code;
    } extends[] = {{1, 2, VPMOVZXBW}, {2, 4, VPMOVZXWD}, {4, 8, VPMOVZXDQ},  {1, 4, VPMOVZXBD},
                   {1, 8, VPMOVZXBQ}, {2, 8, VPMOVZXWQ}, {8, 16, VMOVQ_LOAD}};
    for (unsigned x = 0; x < sizeof extends / sizeof *extends; x++) {
        unsigned from = extends[x].from, to = extends[x].to, k = 0;
        while (k < 16 && p->from[k] == (k % to < from ? k / to * from + k % to : ZERO))
            k++;
        if (k == 16) return choose(p, PLAN_UNARY, extends[x].code);
    }
    return false;
}

static bool plan_interleave(struct plan *p) {
    static const enum vector_code low[4] = {VPUNPCKLBW, VPUNPCKLWD, VPUNPCKLDQ, VPUNPCKLQDQ};
    static const enum vector_code high[4] = {VPUNPCKHBW, VPUNPCKHWD, VPUNPCKHDQ, VPUNPCKHQDQ};
    for (unsigned k = 0; k < 4; k++) {
        if (is_interleave(p, 1u << k, 0)) return choose(p, PLAN_BINARY, low[k]);
        if (is_interleave(p, 1u << k, 8)) return choose(p, PLAN_BINARY, high[k]);
    }
    return false;
}

/* Sixteen bytes in a row out of both sources, or around in one. */
static bool plan_align(struct plan *p) {
    unsigned n = p->from[0], around = p->right ? 32 : 16;
    for (unsigned k = 0; k < 16; k++)
        if (p->from[k] != (n + k) % around) return false;
    if (n > 16) {
        exchange(p);
        n -= 16;
    }
    if (p->right) exchange(p); /* the first source is the upper one */
    return choose_imm(p, PLAN_BINARY, VPALIGNR, n);
}

static bool plan_blend(struct plan *p) {
    unsigned mask = 0, words = 0;
    for (unsigned k = 0; k < 16; k++) {
        if (p->from[k] == ZERO || (p->from[k] & 15) != k) return false;
        mask |= (unsigned)(p->from[k] >> 4) << k;
    }
    for (unsigned k = 0; k < 8; k++) {
        if ((mask >> 2 * k & 1) != (mask >> (2 * k + 1) & 1)) return choose(p, PLAN_BLENDV, VPBLENDVB);
        words |= (mask >> 2 * k & 1) << k;
    }
    for (unsigned k = 0; k < 4; k++)
        if ((words >> 2 * k & 1) != (words >> (2 * k + 1) & 1)) return choose_imm(p, PLAN_BINARY, VPBLENDW, words);
    unsigned dwords = (words & 1) | (words >> 2 & 1) << 1 | (words >> 4 & 1) << 2 | (words >> 6 & 1) << 3;
    return choose_imm(p, PLAN_BINARY, VPBLENDD, dwords);
}

static unsigned four(const uint8_t *lane) {
    return (lane[0] & 3u) | (lane[1] & 3u) << 2 | (lane[2] & 3u) << 4 | (lane[3] & 3u) << 6;
}

/* vshufps: two lanes of the first source, then two of the second. */
static bool plan_dwords(struct plan *p) {
    uint8_t lane[16];
    if (!whole_lanes(p, 4, lane)) return false;
    if (!p->right) return choose_imm(p, PLAN_UNARY, VPSHUFD, four(lane));
    if (lane[0] >> 2 == lane[1] >> 2 && lane[2] >> 2 == lane[3] >> 2) {
        if (lane[0] >> 2) exchange(p);
        return choose_imm(p, PLAN_BINARY, VSHUFPS, four(lane));
    }
    return choose(p, PLAN_DWORDS, VPSHUFD);
}

static bool in_place(const uint8_t *lane, unsigned first) {
    for (unsigned k = first; k < first + 4; k++)
        if (lane[k] != k) return false;
    return true;
}

static bool plan_words(struct plan *p) {
    uint8_t lane[16];
    if (!whole_lanes(p, 2, lane)) return false;
    bool low = true, high = true, same = true;
    for (unsigned k = 0; k < 8; k++) {
        (k < 4 ? &low : &high)[0] &= lane[k] / 4 == k / 4;
        same &= lane[k] == 0;
    }
    if (same) return choose(p, PLAN_UNARY, VPBROADCASTW);
    if (high && in_place(lane, 0)) return choose_imm(p, PLAN_UNARY, VPSHUFHW, four(lane + 4));
    if (low && in_place(lane, 4)) return choose_imm(p, PLAN_UNARY, VPSHUFLW, four(lane));
    return false;
}

/* Moved up or down by whole bytes, zeros behind. */
static bool plan_shift(struct plan *p) {
    unsigned n = 0;
    while (n < 16 && p->from[n] == ZERO)
        n++;
    p->digit = SHIFT_BYTES_LEFT;
    if (n == 0) {
        p->digit = SHIFT_BYTES_RIGHT;
        n = p->from[0];
    }
    for (unsigned k = 0; k < 16; k++) {
        unsigned l = p->digit == SHIFT_BYTES_LEFT ? (k < n ? ZERO : k - n) : (k + n < 16 ? k + n : ZERO);
        if (p->from[k] != l) return false;
    }
    return choose_imm(p, PLAN_SHIFT, VPSHIFT_Q, n);
}

static bool plan_one(struct plan *p) {
    bool copy = true, same = true;
    for (unsigned k = 0; k < 16; k++) {
        copy &= p->from[k] == k;
        same &= p->from[k] == 0;
    }
    if (copy) return choose(p, PLAN_COPY, VMOVAPS);
    if (same) return choose(p, PLAN_UNARY, VPBROADCASTB);
    return plan_dwords(p) || plan_words(p) || plan_interleave(p) || plan_extend(p) || plan_shift(p) || plan_align(p);
}

static bool plan_two(struct plan *p) {
    if (plan_blend(p) || plan_interleave(p) || plan_align(p)) return true;
    exchange(p);
    if (plan_interleave(p)) return true;
    exchange(p);
    return plan_dwords(p);
}

static struct plan plan_of(const struct fn *f, const struct ins *i) {
    struct plan p = {.left = i->a};
    if (i->op == OP_I8X16_SHUFFLE) {
        p.right = i->b;
        memcpy(p.from, f->vectors.v + 16 * i->imm, 16);
    } else if (i->op == OP_V128_OR) {
        p.left = x86_byte_rotation(f, i, p.from);
    } else {
        for (unsigned k = 0; k < 16; k++) {
            uint8_t l = constant_bytes(f, i->b)[k];
            p.from[k] = l < 16 ? l : ZERO;
        }
    }
    drop_operands(f, &p);
    if (!p.left)
        p.how = PLAN_ZERO;
    else if (!(p.right ? plan_two(&p) : plan_one(&p)))
        p.how = PLAN_BYTES;
    return p;
}

/* ---- emission ---- */

void x86_shuffle_operands(const struct fn *f, const struct ins *i, struct operands *o) {
    struct plan p = plan_of(f, i);
    o->def = DEF_REG;
    switch (p.how) {
    case PLAN_ZERO: return;
    case PLAN_UNARY: use_right(f, o, p.left); return;
    case PLAN_BINARY:
    case PLAN_BLENDV:
        use_of(o, p.left, USE_REG);
        if (p.right) use_right(f, o, p.right);
        return;
    default:
        use_of(o, p.left, USE_REG);
        if (p.right) use_of(o, p.right, USE_REG);
        return;
    }
}

/* Each source's lanes brought to their places, then blended. Nothing is written to the result's register early: it may
 * be a source's. */
static void emit_dwords(struct emitter *e, const struct plan *p, uint8_t d) {
    uint8_t lane[16], of[2][4], source[2] = {e->as->use[0], e->as->use[1]};
    static const uint8_t scratch[2] = {XMM14, XMM15};
    unsigned mask = 0;
    whole_lanes(p, 4, lane);
    for (unsigned s = 0; s < 2; s++) {
        bool placed = true;
        for (unsigned k = 0; k < 4; k++) {
            bool mine = lane[k] >> 2 == s;
            of[s][k] = mine ? lane[k] & 3 : (uint8_t)k;
            placed &= of[s][k] == k;
            mask |= mine && s ? 1u << k : 0;
        }
        if (placed) continue;
        vri(e, VPSHUFD, scratch[s], 0, source[s], four(of[s]));
        source[s] = scratch[s];
    }
    vri(e, VPBLENDD, d, source[0], source[1], mask);
}

static struct rm byte_mask(struct emitter *e, const struct plan *p, unsigned source) {
    uint8_t mask[16];
    for (unsigned k = 0; k < 16; k++)
        mask[k] = p->from[k] != ZERO && p->from[k] >> 4 == (int)source ? p->from[k] & 15 : ZERO;
    return rm_pool(pool_add(&e->a, mask));
}

static void emit_bytes(struct emitter *e, const struct plan *p, uint8_t d) {
    if (!p->right) {
        vm(e, VPSHUFB, d, e->as->use[0], byte_mask(e, p, 0));
        return;
    }
    vm(e, VPSHUFB, XMM15, e->as->use[0], byte_mask(e, p, 0));
    vm(e, VPSHUFB, d, e->as->use[1], byte_mask(e, p, 1));
    vr(e, VPOR, d, d, XMM15);
}

static void emit_blendv(struct emitter *e, const struct plan *p, uint8_t d) {
    uint8_t mask[16];
    for (unsigned k = 0; k < 16; k++)
        mask[k] = p->from[k] >= 16 ? 0xff : 0;
    vm(e, VMOVUPS, XMM15, 0, rm_pool(pool_add(&e->a, mask)));
    vblend(e, VPBLENDVB, d, e->as->use[0], right_rm(e, p->right, 1), XMM15);
}

void x86_shuffle(struct emitter *e, const struct ins *i) {
    struct plan p = plan_of(e->f, i);
    uint8_t d = e->as->def, x = e->as->use[0];
    struct rm y;
    switch (p.how) {
    case PLAN_COPY: vmove(e, d, x); return;
    case PLAN_ZERO: vr(e, VPXOR, d, d, d); return;
    case PLAN_SHIFT: vri(e, p.code, p.digit, d, x, p.imm); return;
    case PLAN_BLENDV: emit_blendv(e, &p, d); return;
    case PLAN_DWORDS: emit_dwords(e, &p, d); return;
    case PLAN_BYTES: emit_bytes(e, &p, d); return;
    case PLAN_UNARY:
        x = 0;
        y = right_rm(e, p.left, 0);
        break;
    default: y = p.right ? right_rm(e, p.right, 1) : rm_reg(x);
    }
    if (p.has_imm)
        vmi(e, p.code, d, x, y, p.imm);
    else
        vm(e, p.code, d, x, y);
}
