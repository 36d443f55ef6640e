/* A language interpreter as they are written: cells, symbols, environments, closures, a recursive evaluator and a
 * mark-and-sweep collector, running queens, sorting and primes in a small Lisp. */
#include "bench.h"

enum tag { NUMBER, SYMBOL, PAIR, PRIMITIVE, CLOSURE, NIL, TRUE_ };
typedef struct cell *obj;
struct cell {
    uint8_t tag, mark;
    union {
        int64_t number;
        const char *name;
        struct {
            obj car, cdr;
        };
        obj (*primitive)(obj args);
        struct {
            obj parameters_body, env;
        };
    };
};

enum { CELLS = 60000, ROOTS = 20000 };
static struct cell cells[CELLS], nil = {.tag = NIL}, true_ = {.tag = TRUE_};
static obj free_list, symbols, global, roots[ROOTS], *top;
static obj s_quote, s_if, s_define, s_lambda, s_let, s_begin;
static uint32_t collections;

static void mark(obj o) {
    for (;;) {
        if (o->mark) return;
        o->mark = 1;
        if (o->tag != PAIR && o->tag != CLOSURE) return;
        mark(o->car);
        o = o->cdr;
    }
}
NOINLINE static void collect(void) {
    collections++;
    mark(symbols);
    mark(global);
    for (obj *r = roots; r < top; r++)
        mark(*r);
    for (int i = 0; i < CELLS; i++) {
        if (!cells[i].mark) {
            cells[i].cdr = free_list;
            free_list = &cells[i];
        }
        cells[i].mark = 0;
    }
    nil.mark = true_.mark = 0;
}
static obj make(enum tag tag) {
    if (!free_list) collect();
    if (!free_list) abort();
    obj o = free_list;
    free_list = o->cdr;
    o->tag = (uint8_t)tag;
    return o;
}
static obj cons(obj a, obj d) {
    *top++ = a;
    *top++ = d;
    obj o = make(PAIR);
    top -= 2;
    o->car = a;
    o->cdr = d;
    return o;
}
static obj number(int64_t n) {
    obj o = make(NUMBER);
    o->number = n;
    return o;
}
static obj symbol(const char *name) {
    for (obj s = symbols; s != &nil; s = s->cdr)
        if (!strcmp(s->car->name, name)) return s->car;
    obj o = make(SYMBOL);
    o->name = name;
    symbols = cons(o, symbols);
    return o;
}

static const char *text;
static char names[4096], *name_end = names;
static obj read_list(void);
static obj read_one(void) {
    while (*text == ' ' || *text == '\n')
        text++;
    if (*text == '(') return text++, read_list();
    if (*text >= '0' && *text <= '9') {
        int64_t n = 0;
        while (*text >= '0' && *text <= '9')
            n = n * 10 + *text++ - '0';
        return number(n);
    }
    char *name = name_end;
    while (*text && *text != ' ' && *text != '\n' && *text != '(' && *text != ')')
        *name_end++ = *text++;
    *name_end++ = 0;
    return symbol(name);
}
static obj read_list(void) {
    while (*text == ' ' || *text == '\n')
        text++;
    if (*text == ')') return text++, &nil;
    obj first = read_one();
    *top++ = first;
    obj rest = read_list();
    top--;
    return cons(first, rest);
}

static obj lookup(obj name, obj env) {
    for (obj e = env; e != &nil; e = e->cdr)
        if (e->car->car == name) return e->car;
    for (obj e = global; e != &nil; e = e->cdr)
        if (e->car->car == name) return e->car;
    abort();
}
static obj bind(obj name, obj value, obj env) {
    obj pair = cons(name, value);
    return cons(pair, env);
}

static obj eval(obj x, obj env);
static obj eval_list(obj list, obj env) {
    if (list == &nil) return &nil;
    *top++ = list;
    *top++ = env;
    obj first = eval(list->car, env);
    *top++ = first;
    obj rest = eval_list(list->cdr, env);
    top -= 3;
    return cons(first, rest);
}
static obj eval(obj x, obj env) {
    obj *base = top, result;
    for (;;) {
        top = base;
        *top++ = x;
        *top++ = env;
        if (x->tag == SYMBOL) {
            result = lookup(x, env)->cdr;
            break;
        }
        if (x->tag != PAIR) {
            result = x;
            break;
        }
        obj head = x->car;
        if (head == s_quote) {
            result = x->cdr->car;
            break;
        }
        if (head == s_if) {
            x = eval(x->cdr->car, env) != &nil ? x->cdr->cdr->car : x->cdr->cdr->cdr->car;
            continue;
        }
        if (head == s_define) {
            obj value = eval(x->cdr->cdr->car, env);
            global = bind(x->cdr->car, value, global);
            result = &nil;
            break;
        }
        if (head == s_lambda) {
            result = make(CLOSURE);
            result->parameters_body = x->cdr;
            result->env = env;
            break;
        }
        if (head == s_let) { /* (let name value body) */
            obj value = eval(x->cdr->cdr->car, env);
            env = bind(x->cdr->car, value, env);
            x = x->cdr->cdr->cdr->car;
            continue;
        }
        if (head == s_begin) {
            obj l = x->cdr;
            for (; l->cdr != &nil; l = l->cdr)
                eval(l->car, env);
            x = l->car;
            continue;
        }
        obj f = eval(head, env);
        *top++ = f;
        obj args = eval_list(x->cdr, env);
        *top++ = args;
        if (f->tag == PRIMITIVE) {
            result = f->primitive(args);
            break;
        }
        if (f->tag != CLOSURE) abort();
        obj inner = f->env;
        for (obj p = f->parameters_body->car; p != &nil; p = p->cdr, args = args->cdr) {
            *top++ = inner;
            inner = bind(p->car, args->car, inner);
            top--;
        }
        env = inner;
        x = f->parameters_body->cdr->car;
    }
    top = base;
    return result;
}

#define A a->car
#define B a->cdr->car
static obj p_add(obj a) {
    return number(A->number + B->number);
}
static obj p_sub(obj a) {
    return number(A->number - B->number);
}
static obj p_mul(obj a) {
    return number(A->number * B->number);
}
static obj p_rem(obj a) {
    return number(A->number % B->number);
}
static obj p_less(obj a) {
    return A->number < B->number ? &true_ : &nil;
}
static obj p_same(obj a) {
    return A->number == B->number ? &true_ : &nil;
}
static obj p_cons(obj a) {
    return cons(A, B);
}
static obj p_car(obj a) {
    return A->car;
}
static obj p_cdr(obj a) {
    return A->cdr;
}
static obj p_null(obj a) {
    return A == &nil ? &true_ : &nil;
}

static const char program[] =
    "(begin"
    "(define not (lambda (x) (if x nil t)))"
    "(define append (lambda (a b) (if (null a) b (cons (car a) (append (cdr a) b)))))"
    "(define length (lambda (l n) (if (null l) n (length (cdr l) (+ n 1)))))"
    "(define safe (lambda (q d l) (if (null l) t (if (= (car l) q) nil (if (= (car l) (+ q d)) nil"
    "  (if (= (car l) (- q d)) nil (safe q (+ d 1) (cdr l))))))))"
    "(define place (lambda (k q l n) (if (= k 0) 1 (try k q l n 0))))"
    "(define try (lambda (k q l n sum) (if (= q 0) sum"
    "  (try k (- q 1) l n (if (safe q 1 l) (+ sum (place (- k 1) n (cons q l) n)) sum)))))"
    "(define filter (lambda (f l) (if (null l) nil (if (f (car l)) (cons (car l) (filter f (cdr l))) (filter f (cdr "
    "l))))))"
    "(define sort (lambda (l) (if (null l) nil (let p (car l) (append (sort (filter (lambda (x) (< x p)) (cdr l)))"
    "  (cons p (sort (filter (lambda (x) (not (< x p))) (cdr l)))))))))"
    "(define random (lambda (n s l) (if (= n 0) l (random (- n 1) (rem (+ (* s 1103) 12345) 65536) (cons s l)))))"
    "(define hash (lambda (l h) (if (null l) h (hash (cdr l) (rem (+ (* h 31) (car l)) 1000003)))))"
    "(define prime (lambda (n d) (if (< n (* d d)) t (if (= (rem n d) 0) nil (prime n (+ d 1))))))"
    "(define primes (lambda (n c) (if (= n 1) c (primes (- n 1) (if (prime n 2) (+ c 1) c)))))"
    "(+ (place 8 8 nil 8) (+ (hash (sort (random 1000 1 nil)) 0) (primes 6000 0))))";

static void primitive(const char *name, obj (*f)(obj)) {
    obj o = make(PRIMITIVE);
    o->primitive = f;
    global = bind(symbol(name), o, global);
}
static uint64_t kernel(void) {
    free_list = NULL;
    for (int i = 0; i < CELLS; i++) {
        cells[i] = (struct cell){.cdr = free_list};
        free_list = &cells[i];
    }
    symbols = global = &nil;
    top = roots;
    name_end = names;
    collections = 0;
    s_quote = symbol("quote"), s_if = symbol("if"), s_define = symbol("define");
    s_lambda = symbol("lambda"), s_let = symbol("let"), s_begin = symbol("begin");
    primitive("+", p_add), primitive("-", p_sub), primitive("*", p_mul), primitive("rem", p_rem);
    primitive("<", p_less), primitive("=", p_same), primitive("cons", p_cons), primitive("car", p_car);
    primitive("cdr", p_cdr), primitive("null", p_null);
    global = bind(symbol("nil"), &nil, global);
    global = bind(symbol("t"), &true_, global);
    text = program;
    obj x = read_one();
    obj r = eval(x, &nil);
    return mix((uint64_t)r->number, collections);
}
BENCH("lisp")
