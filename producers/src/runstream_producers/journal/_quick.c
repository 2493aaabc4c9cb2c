/* The usual log call, compiled: a dict of plain numbers under names that are known becomes one row in mapped memory.

   Behind a training step all of our code and data is out of the caches, and each line of memory that a call touches costs as much as dozens of instructions; this touches few.
   It packs what `JournalWriter.log` packs, byte for byte, and leaves to it whatever it does not know: other values, names, arguments, a full segment, and a journal that somebody
   is inside of.

   Nothing between its first look at `inside` and the end of the row runs code of Python's users or lets another thread have the interpreter, so a call is one step for threads and
   signal handlers. That holds for the interpreter with a global lock only, and the layout only for little-endian machines. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <structmember.h>

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "journals are little-endian: this machine packs its rows in Python"
#endif
#ifdef Py_GIL_DISABLED
#error "a call is one step under the global lock only: this interpreter packs its rows in Python"
#endif

#define LEAD_BYTES 8  /* length and CRC-32 of the body */
#define HEAD_BYTES 40 /* kind and key set, seq, step, points, time */
#define PLANS 8       /* Key sets that are known at a time; those of others are packed in Python. */
#define SMALL_BYTES 512

typedef struct {
    uint64_t head;
    Py_ssize_t count;
    PyObject *keys;    /* A tuple of exact texts. */
    PyObject *context; /* What calls give, by identity; NULL for none. */
    PyObject *subject;
    PyObject *scope; /* Counts the steps of calls that name none. */
} Plan;

typedef struct {
    PyObject_HEAD
    long long seq;
    long long points;
    long long offset;
    long long end;
    char inside;
    char direct;
    char mapped;
    int next;
    Plan plans[PLANS];
    Py_buffer view;
    PyObject *map;
    PyObject *slow;
    PyObject *numbers;   /* The set of types whose values are numbers. */
    PyObject *next_step; /* The attribute's name. */
} Rows;

static int paused = 0;

/* ---- CRC-32, as zlib's ---- */

static uint32_t table[8][256];

static void make_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (crc >> 1) ^ 0xEDB88320u : crc >> 1;
        table[0][byte] = crc;
    }
    for (int next = 1; next < 8; next++)
        for (int byte = 0; byte < 256; byte++)
            table[next][byte] = (table[next - 1][byte] >> 8) ^ table[0][table[next - 1][byte] & 0xFF];
}

/* Of whole words. Eight tables are quicker, once they are in the caches; for a short row, one table's lines are fewer. */
static uint32_t crc32_of(const unsigned char *bytes, size_t length) {
    uint32_t crc = 0xFFFFFFFFu;
    if (length < SMALL_BYTES) {
        for (size_t place = 0; place < length; place++)
            crc = (crc >> 8) ^ table[0][(crc ^ bytes[place]) & 0xFF];
        return ~crc;
    }
    for (size_t place = 0; place + 8 <= length; place += 8) {
        uint32_t low, high;
        memcpy(&low, bytes + place, 4);
        memcpy(&high, bytes + place + 4, 4);
        low ^= crc;
        crc = table[7][low & 0xFF] ^ table[6][(low >> 8) & 0xFF] ^ table[5][(low >> 16) & 0xFF] ^ table[4][low >> 24] ^ table[3][high & 0xFF] ^
              table[2][(high >> 8) & 0xFF] ^ table[1][(high >> 16) & 0xFF] ^ table[0][high >> 24];
    }
    return ~crc;
}

/* ---- the row ---- */

/* The value as a double; 0 where it is none that struct would pack as what it is. Runs no code but the interpreter's and, for types that were learned, numpy's. */
static int number_of(Rows *self, PyObject *value, double *into) {
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyFloat_Type || type == &PyLong_Type || type == &PyBool_Type) {
        *into = PyFloat_AsDouble(value);
    } else {
        if (self->numbers == NULL || Py_TYPE((PyObject *)type) != &PyType_Type || PySet_Contains(self->numbers, (PyObject *)type) != 1)
            return 0;
        *into = PyFloat_AsDouble(value);
    }
    return !(*into == -1.0 && PyErr_Occurred() != NULL);
}

/* 1 where the values were written behind `into`, 0 where the names are others from the first on, -2 where they are from a later one on, -1 where a value is no plain number or a name
   cannot be compared. */
static int take_values(Rows *self, const Plan *plan, PyObject *data, char *into) {
    Py_ssize_t place = 0;
    PyObject *key, *value;
    for (Py_ssize_t index = 0; PyDict_Next(data, &place, &key, &value); index++) {
        PyObject *known = PyTuple_GetItem(plan->keys, index);
        double number;
        if (key != known) {
            int order = PyUnicode_CheckExact(key) ? PyUnicode_Compare(key, known) : 1;
            if (order == -1 && PyErr_Occurred() != NULL)
                return -1;
            if (order != 0)
                return index == 0 ? 0 : -2;
        }
        if (!number_of(self, value, &number))
            return -1;
        memcpy(into + 8 * index, &number, 8);
    }
    return 1;
}

/* Writes the row; 0 where that is for Python to do. */
static int write_row(Rows *self, PyObject *data, PyObject *step, PyObject *context, PyObject *subject) {
    Py_ssize_t count = PyDict_Size(data);
    for (int turn = 0; turn < PLANS; turn++) {
        Plan *plan = &self->plans[turn];
        long long number;
        long long row = LEAD_BYTES + HEAD_BYTES + 8 * (long long)count;
        char *start, *body;
        if (plan->count != count || plan->keys == NULL || plan->context != context || plan->subject != subject)
            continue;
        if (self->offset < 0 || self->offset > self->view.len - row || self->offset + row > self->end)
            return 0;
        if (step != NULL) {
            number = PyLong_AsLongLong(step);
        } else {
            PyObject *counter = PyObject_GetAttr(plan->scope, self->next_step);
            if (counter == NULL)
                return 0;
            number = PyLong_AsLongLong(counter);
            Py_DECREF(counter);
        }
        if ((number == -1 && PyErr_Occurred() != NULL) || (step == NULL && number == LLONG_MAX))
            return 0;
        start = (char *)self->view.buf + self->offset;
        body = start + LEAD_BYTES;
        int taken = take_values(self, plan, data, body + HEAD_BYTES);
        if (taken == 1) {
            struct timespec now;
            uint64_t head[4] = {plan->head, (uint64_t)self->seq, (uint64_t)number, (uint64_t)(self->points + count)};
            uint32_t length = (uint32_t)(row - LEAD_BYTES);
            double seconds;
            uint64_t lead;
            if (step == NULL) {
                PyObject *following = PyLong_FromLongLong(number + 1);
                int counted = following != NULL && PyObject_SetAttr(plan->scope, self->next_step, following) == 0;
                Py_XDECREF(following);
                if (!counted)
                    goto undo;
            }
            clock_gettime(CLOCK_REALTIME, &now);
            seconds = (double)((int64_t)now.tv_sec * 1000000000 + now.tv_nsec) / 1e9;
            memcpy(body, head, sizeof head);
            memcpy(body + sizeof head, &seconds, 8);
            lead = length | (uint64_t)crc32_of((unsigned char *)body, length) << 32;
            __atomic_store_n((uint64_t *)start, lead, __ATOMIC_RELEASE); /* What makes it a row, for readers in other processes, too. */
            self->offset += row;
            self->points += count;
            self->seq += 1;
            return 1;
        }
        if (taken == 0)
            continue;
    undo:
        /* Behind the last row there are zeros, whatever is written next. */
        memset(body, 0, (size_t)(row - LEAD_BYTES));
        if (taken != -2)
            return 0;
    }
    return 0;
}

static PyObject *call_slow(Rows *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *slow = self->slow, *positional, *named = NULL, *answer = NULL;
    if (slow == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "expected `slow` to be set before the first call of log");
        return NULL;
    }
    Py_INCREF(slow); /* The call itself may put another in its place. */
    positional = PyTuple_New(nargs);
    if (positional == NULL)
        goto done;
    for (Py_ssize_t index = 0; index < nargs; index++) {
        Py_INCREF(args[index]);
        PyTuple_SetItem(positional, index, args[index]);
    }
    if (kwnames != NULL) {
        named = PyDict_New();
        if (named == NULL)
            goto done;
        for (Py_ssize_t index = 0; index < PyTuple_Size(kwnames); index++)
            if (PyDict_SetItem(named, PyTuple_GetItem(kwnames, index), args[nargs + index]) < 0)
                goto done;
    }
    answer = PyObject_Call(slow, positional, named);
done:
    Py_DECREF(slow);
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return answer;
}

static PyObject *Rows_log(Rows *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *step = NULL, *context = NULL, *subject = NULL;
    if (self->inside || !self->direct || paused || !self->mapped || nargs < 1 || nargs > 2 || !PyDict_CheckExact(args[0]))
        return call_slow(self, args, nargs, kwnames);
    if (nargs == 2)
        step = args[1];
    if (kwnames != NULL) {
        Py_ssize_t named = PyTuple_Size(kwnames);
        for (Py_ssize_t index = 0; index < named; index++) {
            PyObject *name = PyTuple_GetItem(kwnames, index), *value = args[nargs + index];
            if (PyUnicode_CompareWithASCIIString(name, "step") == 0 && nargs < 2)
                step = value;
            else if (PyUnicode_CompareWithASCIIString(name, "context") == 0)
                context = value;
            else if (PyUnicode_CompareWithASCIIString(name, "subject") == 0)
                subject = value;
            else if (value != Py_None || (PyUnicode_CompareWithASCIIString(name, "time") != 0 && PyUnicode_CompareWithASCIIString(name, "source") != 0))
                return call_slow(self, args, nargs, kwnames);
        }
    }
    if (step == Py_None)
        step = NULL;
    if (context == Py_None)
        context = NULL;
    if (subject != NULL && (subject == Py_None || (PyUnicode_CheckExact(subject) && PyUnicode_GetLength(subject) == 0)))
        subject = NULL;
    if (step != NULL && !PyLong_CheckExact(step))
        return call_slow(self, args, nargs, kwnames);
    if (write_row(self, args[0], step, context, subject))
        Py_RETURN_NONE;
    PyErr_Clear(); /* A number beyond its bounds, which Python's way tells of. */
    return call_slow(self, args, nargs, kwnames);
}

/* ---- what it knows ---- */

static void forget(Plan *plan) {
    PyObject *keys = plan->keys, *context = plan->context, *subject = plan->subject, *scope = plan->scope;
    memset(plan, 0, sizeof *plan);
    Py_XDECREF(keys);
    Py_XDECREF(context);
    Py_XDECREF(subject);
    Py_XDECREF(scope);
}

static PyObject *Rows_forget_plans(Rows *self, PyObject *Py_UNUSED(nothing)) {
    for (int place = 0; place < PLANS; place++)
        forget(&self->plans[place]);
    Py_RETURN_NONE;
}

static PyObject *Rows_learn(Rows *self, PyObject *args) {
    unsigned long long head;
    PyObject *keys, *context, *subject, *scope, *numbers, *before;
    Plan *plan;
    if (!PyArg_ParseTuple(args, "KO!OOOO!:learn", &head, &PyTuple_Type, &keys, &context, &subject, &scope, &PySet_Type, &numbers))
        return NULL;
    for (Py_ssize_t index = 0; index < PyTuple_Size(keys); index++)
        if (!PyUnicode_CheckExact(PyTuple_GetItem(keys, index)))
            Py_RETURN_NONE;
    if (context == Py_None)
        context = NULL;
    if (subject == Py_None || (PyUnicode_CheckExact(subject) && PyUnicode_GetLength(subject) == 0))
        subject = NULL;
    plan = &self->plans[self->next];
    self->next = (self->next + 1) % PLANS;
    forget(plan);
    Py_INCREF(keys);
    Py_XINCREF(context);
    Py_XINCREF(subject);
    Py_INCREF(scope);
    Py_INCREF(numbers);
    before = self->numbers;
    self->numbers = numbers;
    *plan = (Plan){head, PyTuple_Size(keys), keys, context, subject, scope};
    Py_XDECREF(before); /* Last, like all that may run code of others. */
    Py_RETURN_NONE;
}

static void unmap(Rows *self) {
    PyObject *map = self->map;
    self->map = NULL;
    if (self->mapped) {
        self->mapped = 0;
        PyBuffer_Release(&self->view);
    }
    Py_XDECREF(map);
}

static PyObject *Rows_get_map(Rows *self, void *Py_UNUSED(closure)) {
    PyObject *map = self->map == NULL ? Py_None : self->map;
    Py_INCREF(map);
    return map;
}

static int Rows_set_map(Rows *self, PyObject *map, void *Py_UNUSED(closure)) {
    unmap(self);
    if (map == NULL)
        return 0;
    if (PyObject_GetBuffer(map, &self->view, PyBUF_WRITABLE) < 0)
        return -1;
    if (self->view.len > 0)
        self->mapped = 1;
    else
        PyBuffer_Release(&self->view); /* Nothing fits; and a bytearray that stands for no segment may be written past, for nobody to read. */
    Py_INCREF(map);
    self->map = map;
    return 0;
}

/* ---- the type ---- */

static int Rows_traverse(Rows *self, visitproc visit, void *arg) {
    for (int place = 0; place < PLANS; place++) {
        Py_VISIT(self->plans[place].keys);
        Py_VISIT(self->plans[place].context);
        Py_VISIT(self->plans[place].subject);
        Py_VISIT(self->plans[place].scope);
    }
    Py_VISIT(self->map);
    Py_VISIT(self->slow);
    Py_VISIT(self->numbers);
    Py_VISIT(Py_TYPE((PyObject *)self));
    return 0;
}

static int Rows_clear(Rows *self) {
    for (int place = 0; place < PLANS; place++)
        forget(&self->plans[place]);
    unmap(self);
    Py_CLEAR(self->slow);
    Py_CLEAR(self->numbers);
    return 0;
}

static PyObject *Rows_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    Rows *self = (Rows *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self != NULL && (self->next_step = PyUnicode_InternFromString("next_step")) == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void Rows_dealloc(Rows *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Rows_clear(self);
    Py_CLEAR(self->next_step);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"seq", T_LONGLONG, offsetof(Rows, seq), 0, "the seq of the next row"},
    {"points", T_LONGLONG, offsetof(Rows, points), 0, "points logged so far"},
    {"offset", T_LONGLONG, offsetof(Rows, offset), 0, "bytes of the segment that are written"},
    {"end", T_LONGLONG, offsetof(Rows, end), 0, "bytes of the segment"},
    {"inside", T_BOOL, offsetof(Rows, inside), 0, "whether Python is changing any of this"},
    {"direct", T_BOOL, offsetof(Rows, direct), 0, "whether rows are written here at all"},
    {"slow", T_OBJECT, offsetof(Rows, slow), 0, "what takes the calls that are not written here"},
    {NULL},
};

static PyGetSetDef properties[] = {
    {"map", (getter)Rows_get_map, (setter)Rows_set_map, "the segment that rows are written to", NULL},
    {NULL},
};

static PyMethodDef methods[] = {
    {"log", (PyCFunction)(void (*)(void))Rows_log, METH_FASTCALL | METH_KEYWORDS, "Writes one row of metrics; see `runstream.Run.log`."},
    {"learn", (PyCFunction)Rows_learn, METH_VARARGS, "Takes rows of these names, context and subject from here on, until the plans are forgotten."},
    {"forget_plans", (PyCFunction)Rows_forget_plans, METH_NOARGS, "Forgets all names: a new segment begins without key sets."},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, Rows_new},         {Py_tp_dealloc, Rows_dealloc},   {Py_tp_traverse, Rows_traverse}, {Py_tp_clear, Rows_clear},
    {Py_tp_members, members},      {Py_tp_getset, properties},      {Py_tp_methods, methods},
    {Py_tp_doc, "Where rows are written: the counts and the mapped segment of a journal's end."}, {0, NULL},
};

static PyType_Spec spec = {"runstream_producers.journal._quick.Rows", sizeof(Rows), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

static PyObject *pause_calls(PyObject *Py_UNUSED(module), PyObject *whether) {
    int asked = PyObject_IsTrue(whether);
    if (asked < 0)
        return NULL;
    paused = asked;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"pause", pause_calls, METH_O, "Whether all calls of this process are left to Python, for tests that set its clock."},
    {NULL},
};

static int fill(PyObject *module) {
    PyObject *type = PyType_FromSpec(&spec);
    int added;
    if (type == NULL)
        return -1;
    make_table();
    added = PyModule_AddObjectRef(module, "Rows", type);
    Py_DECREF(type);
    return added;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, fill}, {0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_quick", "The usual log call, compiled.", 0, functions, module_slots};

PyMODINIT_FUNC PyInit__quick(void) { return PyModuleDef_Init(&definition); }
