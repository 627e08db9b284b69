/* The Windows half of the launcher: a small program that unpacks this machine's runtime out of
 * the archive once and starts it as  llamafile.exe --archive "PATH" ARGUMENTS...
 *
 * It is the PE part of the polyglot head, and also the NAME.exe that lies beside an archive too
 * large for Windows to run. No C runtime: only kernel32, so that nothing but the file itself has
 * to be right. Inflate, tar and SHA-256 come from Zig's standard library (inflate.zig).
 * ci/build_stub.py compiles it; docs/format.md specifies the boot line.
 */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <stdarg.h>
#include <stdint.h>

enum {
    HEAD_SIZE = 65536,        /* the boot table lies within these bytes of the archive */
    PATH_CHARS = 32768,       /* the longest path that Windows has, docs "Maximum Path Length" */
    KEY_CHARS = 16,           /* a runtime's folder: first hex digits of its pack's SHA-256 */
    ROOT_CHARS = 160,         /* a longer cache folder leaves no MAX_PATH to what lies in it: the
                               * host, Python and its DLLs are loaded by plain paths */
    RENAME_TRIES = 50,        /* × 100 ms: a virus scanner may hold freshly written files */
};
#define STALE_TICKS (24ULL * 3600 * 10000000) /* a day in FILETIME's 100 ns */
#define SMALL_PACK_LIMIT (1ULL << 31)         /* a runtime pack is about 15 MB; this is damage */

/* --- inflate.zig ------------------------------------------------------------------------- */

typedef struct {
    void *context;
    int (*open)(void *context, const uint8_t *name, size_t size, int folder);
    int (*write)(void *context, const uint8_t *data, size_t size);
    int (*close)(void *context);
} Sink;

enum { UNPACK_OK, UNPACK_DAMAGED, UNPACK_UNSUPPORTED, UNPACK_SINK_FAILED };

void launcher_sha256(const uint8_t *data, size_t size, uint8_t digest[32]);
int launcher_unpack(const uint8_t *data, size_t size, const Sink *sink);

/* --- what compilers call ----------------------------------------------------------------- */

/* Zig's compiler-rt brings 50 KB of arithmetic along with these. `rep` needs no loop that the
 * compiler could turn into a call of the function itself. */
void *memset(void *to, int byte, size_t size) {
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(byte) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t size) {
    void *at = to;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
    return to;
}

void *memmove(void *to, const void *from, size_t size) {
    if ((uintptr_t)to - (uintptr_t)from >= size) return memcpy(to, from, size);
    uint8_t *at = (uint8_t *)to + size;
    const uint8_t *last = (const uint8_t *)from + size;
    while (size--) {
        *--at = *--last;
        __asm__ volatile("" : : : "memory");
    }
    return to;
}

/* Called before frames over a page, RAX their size: touches each page in turn, since Windows
 * grows a stack only through its guard page ("x64 prolog and epilog"). Keeps every register. */
__asm__(".globl ___chkstk_ms\n"
        "___chkstk_ms:\n"
        "  push %rcx\n"
        "  push %rax\n"
        "  lea 24(%rsp), %rcx\n"
        "1: cmp $4096, %rax\n"
        "  jb 2f\n"
        "  sub $4096, %rcx\n"
        "  orb $0, (%rcx)\n"
        "  sub $4096, %rax\n"
        "  jmp 1b\n"
        "2: sub %rax, %rcx\n"
        "  orb $0, (%rcx)\n"
        "  pop %rax\n"
        "  pop %rcx\n"
        "  ret\n");

/* --- words ------------------------------------------------------------------------------- */

static const wchar_t *program = L"llamafile"; /* the archive's name, to start messages with */
static int own_console;                       /* a double click: the window dies with us */
static HANDLE child;

static void *allocate(size_t size) {
    void *memory = HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, size);
    if (!memory) ExitProcess(1); /* words need memory too */
    return memory;
}

/* Joins strings up to a NULL; nothing is ever freed, the process lives for one start. */
static wchar_t *join(const wchar_t *first, ...) {
    size_t size = 1;
    va_list list;
    va_start(list, first);
    for (const wchar_t *part = first; part; part = va_arg(list, const wchar_t *))
        size += lstrlenW(part);
    va_end(list);
    wchar_t *joined = allocate(size * sizeof *joined), *end = joined;
    va_start(list, first);
    for (const wchar_t *part = first; part; part = va_arg(list, const wchar_t *))
        while (*part) *end++ = *part++;
    va_end(list);
    return joined;
}

static wchar_t *decimal(uint64_t number) {
    wchar_t *digits = (wchar_t *)allocate(22 * sizeof *digits) + 20;
    do *--digits = L'0' + number % 10; while (number /= 10);
    return digits;
}

static int is_console(HANDLE handle) {
    DWORD mode;
    return GetConsoleMode(handle, &mode);
}

/* One line on stderr: as UTF-16 on a console, as UTF-8 into a file or pipe. */
static void say(const wchar_t *words) {
    const wchar_t *line = join(program, L": ", words, L"\r\n", NULL);
    HANDLE stream = GetStdHandle(STD_ERROR_HANDLE);
    DWORD done, size = lstrlenW(line);
    if (is_console(stream)) {
        WriteConsoleW(stream, line, size, &done, NULL);
        return;
    }
    char *bytes = allocate(size * 3 + 1);
    int length = WideCharToMultiByte(CP_UTF8, 0, line, size, bytes, size * 3, NULL, NULL);
    WriteFile(stream, bytes, length, &done, NULL);
}

static void wait_for_key(void) {
    HANDLE keyboard = GetStdHandle(STD_INPUT_HANDLE);
    if (!is_console(keyboard)) return;
    say(L"press a key to close this window.");
    FlushConsoleInputBuffer(keyboard);
    INPUT_RECORD event;
    DWORD got;
    while (ReadConsoleInputW(keyboard, &event, 1, &got) && got)
        if (event.EventType == KEY_EVENT && event.Event.KeyEvent.bKeyDown) return;
}

static void __attribute__((noreturn)) fail(const wchar_t *words) {
    say(words);
    if (own_console) wait_for_key();
    ExitProcess(1);
}

/* Windows' own sentence for an error code, without its line end. */
static wchar_t *reason(DWORD code) {
    wchar_t *text = allocate(512 * sizeof *text);
    DWORD size = FormatMessageW(
        FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, code, 0, text, 511, NULL);
    while (size && (text[size - 1] <= L' ' || text[size - 1] == L'.')) text[--size] = 0;
    return join(size ? text : L"error", L" (", decimal(code), L")", NULL);
}

/* --- paths ------------------------------------------------------------------------------- */

static int starts(const wchar_t *text, const wchar_t *with) {
    while (*with) if (*text++ != *with++) return 0;
    return 1;
}

/* The \\?\ form, which MAX_PATH does not bind. `path` must be absolute. */
static wchar_t *unbound(const wchar_t *path) {
    if (starts(path, L"\\\\?\\") || starts(path, L"\\\\.\\")) return join(path, NULL);
    if (starts(path, L"\\\\")) return join(L"\\\\?\\UNC", path + 1, NULL);
    return join(L"\\\\?\\", path, NULL);
}

/* The plain form where it fits: not every program can use \\?\ ones. */
static const wchar_t *plain(const wchar_t *path) {
    if (!starts(path, L"\\\\?\\") || lstrlenW(path) >= MAX_PATH) return path;
    if (starts(path, L"\\\\?\\UNC\\")) return join(L"\\\\", path + 8, NULL);
    return path[5] == L':' ? path + 4 : path;
}

static const wchar_t *leaf(const wchar_t *path) {
    const wchar_t *name = path;
    for (; *path; path++) if (*path == L'\\' || *path == L'/') name = path + 1;
    return name;
}

static int exists(const wchar_t *path) {
    return GetFileAttributesW(path) != INVALID_FILE_ATTRIBUTES;
}

static int make_folder(const wchar_t *path) {
    return CreateDirectoryW(path, NULL) || GetLastError() == ERROR_ALREADY_EXISTS;
}

/* Removes a tree; never goes through a junction or link. */
static void remove_tree(const wchar_t *path) {
    WIN32_FIND_DATAW entry;
    HANDLE search = FindFirstFileW(join(path, L"\\*", NULL), &entry);
    if (search != INVALID_HANDLE_VALUE) {
        do {
            if (!lstrcmpW(entry.cFileName, L".") || !lstrcmpW(entry.cFileName, L"..")) continue;
            wchar_t *name = join(path, L"\\", entry.cFileName, NULL);
            if (!(entry.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY)) DeleteFileW(name);
            else if (entry.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) RemoveDirectoryW(name);
            else remove_tree(name);
        } while (FindNextFileW(search, &entry));
        FindClose(search);
    }
    RemoveDirectoryW(path);
}

/* --- the archive and its boot line ------------------------------------------------------- */

typedef struct {
    const wchar_t *path; /* \\?\ form */
    HANDLE file;
    uint64_t offset, size;
    char sha256[65];
} Archive;

static const char *number(const char *text, uint64_t *value) {
    if (*text < '0' || *text > '9') return NULL;
    for (*value = 0; *text >= '0' && *text <= '9'; text++) {
        if (*value > UINT64_MAX / 10 - 1) return NULL;
        *value = *value * 10 + (*text - '0');
    }
    return text;
}

/* Reads  OFFSET SIZE SHA256HEX'  into the archive; 0 when the text is something else. */
static int parse_boot_line(const char *text, Archive *archive) {
    text = number(text, &archive->offset);
    if (!text || *text++ != ' ') return 0;
    text = number(text, &archive->size);
    if (!text || *text++ != ' ') return 0;
    for (int i = 0; i < 64; i++, text++) {
        if (!((*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'f'))) return 0;
        archive->sha256[i] = *text;
    }
    return *text == '\'';
}

/* The key's text also lies in this program's own data; there no number follows it. */
static int find_boot_line(const char *head, DWORD size, Archive *archive) {
    static const char key[] = "\npack_windows_x64='";
    for (DWORD at = 0; at + sizeof key < size; at++) {
        DWORD same = 0;
        while (same < sizeof key - 1 && head[at + same] == key[same]) same++;
        if (same == sizeof key - 1 && parse_boot_line(head + at + same, archive)) return 1;
    }
    return 0;
}

/* Opens `path`; 0 when it is no file, or one that has no runtime for Windows. */
static int open_archive(const wchar_t *path, Archive *archive) {
    archive->path = path;
    archive->file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL,
                                OPEN_EXISTING, 0, NULL);
    if (archive->file == INVALID_HANDLE_VALUE) return 0;
    char *head = allocate(HEAD_SIZE + 128); /* the spare zeros end every scan */
    DWORD got = 0;
    if (ReadFile(archive->file, head, HEAD_SIZE, &got, NULL) && find_boot_line(head, got, archive))
        return 1;
    CloseHandle(archive->file);
    return 0;
}

static wchar_t *own_path(void) {
    wchar_t *raw = allocate(PATH_CHARS * sizeof *raw), *full = allocate(PATH_CHARS * sizeof *full);
    DWORD size = GetModuleFileNameW(NULL, raw, PATH_CHARS);
    if (!size || size >= PATH_CHARS) fail(L"Windows does not tell where this program lies.");
    size = GetFullPathNameW(raw, PATH_CHARS, full, NULL);
    return unbound(size && size < PATH_CHARS ? full : raw);
}

/* This program itself, or for a plain NAME.exe the archive beside it. */
static Archive find_archive(void) {
    Archive archive = {0};
    wchar_t *path = own_path();
    program = leaf(path);
    if (open_archive(path, &archive)) return archive;
    wchar_t *stem = join(path, NULL);
    int size = lstrlenW(stem);
    if (size > 4 && !lstrcmpiW(stem + size - 4, L".exe")) stem[size - 4] = 0;
    if (lstrcmpW(stem, path) && open_archive(stem, &archive)) return archive;
    wchar_t *beside = join(stem, L".llamafile", NULL);
    if (open_archive(beside, &archive)) return archive;
    fail(join(L"this launcher needs its archive beside it: put \"", leaf(beside), L"\" (or \"",
              leaf(stem), L"\"), built with Windows among its targets, into the same folder.",
              NULL));
}

/* Reads the runtime pack and checks it; the very bytes that were checked are unpacked. */
static uint8_t *read_pack(const Archive *archive) {
    if (archive->size > SMALL_PACK_LIMIT) fail(L"the file is damaged (its boot line is not right).");
    uint8_t *pack = allocate(archive->size + 1);
    LARGE_INTEGER offset = {.QuadPart = (LONGLONG)archive->offset};
    DWORD got = 0;
    if (!SetFilePointerEx(archive->file, offset, NULL, FILE_BEGIN) ||
        !ReadFile(archive->file, pack, (DWORD)archive->size, &got, NULL))
        fail(join(L"the file cannot be read: ", reason(GetLastError()), L".", NULL));
    if (got != archive->size)
        fail(L"the file is cut short: its download or copy did not end. Fetch it again.");
    uint8_t digest[32];
    launcher_sha256(pack, got, digest);
    for (int i = 0; i < 64; i++)
        if ("0123456789abcdef"[i % 2 ? digest[i / 2] & 15 : digest[i / 2] >> 4] !=
            archive->sha256[i])
            fail(L"the file is damaged: its Windows runtime does not have the SHA-256 that it "
                 L"should. Fetch it again.");
    return pack;
}

/* --- unpacking --------------------------------------------------------------------------- */

typedef struct {
    const wchar_t *folder; /* where entries go */
    HANDLE file;           /* the entry being written, NULL for a folder */
    DWORD error;           /* why a callback stopped, 0: a name was refused */
} Target;

/* Packs are ours and checked; this keeps a wrong one from leaving its folder. */
static int safe_name(const uint8_t *name, size_t size) {
    if (!size || size > 100) return 0;
    for (size_t i = 0, start = 0; i <= size; i++) {
        if (i < size && name[i] != '/') {
            if (name[i] <= ' ' || name[i] > '~' || name[i] == '\\' || name[i] == ':' ||
                name[i] == '*' || name[i] == '?' || name[i] == '"' || name[i] == '<' ||
                name[i] == '>' || name[i] == '|')
                return 0;
            continue;
        }
        /* An empty component, "." and "..", or Windows' silently dropped last dot. */
        if (i == start || name[i - 1] == '.') return 0;
        start = i + 1;
    }
    return 1;
}

static int refuse(Target *target) {
    target->error = GetLastError();
    return 1;
}

static int open_entry(void *context, const uint8_t *name, size_t size, int folder) {
    Target *target = context;
    while (folder && size && name[size - 1] == '/') size--;
    target->error = 0;
    if (!safe_name(name, size)) return 1;
    wchar_t *wide = allocate((size + 1) * sizeof *wide);
    for (size_t i = 0; i < size; i++) {
        wide[i] = name[i] == '/' ? L'\\' : name[i];
        /* A pack need not list its folders. */
        if (name[i] == '/') {
            wchar_t *parent = join(target->folder, L"\\", wide, NULL);
            parent[lstrlenW(parent) - 1] = 0;
            if (!make_folder(parent)) return refuse(target);
        }
    }
    wchar_t *path = join(target->folder, L"\\", wide, NULL);
    target->file = NULL;
    if (folder) return make_folder(path) ? 0 : refuse(target);
    target->file = CreateFileW(path, GENERIC_WRITE, 0, NULL, CREATE_NEW, 0, NULL);
    if (target->file != INVALID_HANDLE_VALUE) return 0;
    target->file = NULL;
    return refuse(target);
}

static int write_entry(void *context, const uint8_t *data, size_t size) {
    Target *target = context;
    DWORD done;
    if (!target->file) return 1; /* a folder with contents */
    if (!WriteFile(target->file, data, (DWORD)size, &done, NULL)) return refuse(target);
    if (done != size) target->error = ERROR_DISK_FULL;
    return done != size;
}

static int close_entry(void *context) {
    Target *target = context;
    HANDLE file = target->file;
    target->file = NULL;
    return !file || CloseHandle(file) ? 0 : refuse(target);
}

/* Removes what killed starts left behind more than a day ago. */
static void remove_stale(const wchar_t *runtimes) {
    WIN32_FIND_DATAW entry;
    FILETIME time;
    GetSystemTimeAsFileTime(&time);
    uint64_t now = (uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime;
    HANDLE search = FindFirstFileW(join(runtimes, L"\\.*.tmp.*", NULL), &entry);
    if (search == INVALID_HANDLE_VALUE) return;
    do {
        uint64_t then = (uint64_t)entry.ftLastWriteTime.dwHighDateTime << 32 |
                        entry.ftLastWriteTime.dwLowDateTime;
        if (then + STALE_TICKS < now && entry.cFileName[0] == L'.' &&
            !(entry.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT))
            remove_tree(join(runtimes, L"\\", entry.cFileName, NULL));
    } while (FindNextFileW(search, &entry));
    FindClose(search);
}

/* Moves the finished folder into place; another start may have been faster. */
static DWORD move_in(const wchar_t *from, const wchar_t *to, const wchar_t *host,
                     const wchar_t *aside) {
    for (int tries = 0; tries < RENAME_TRIES; tries++) {
        if (MoveFileExW(from, to, 0)) return 0;
        DWORD error = GetLastError();
        if (exists(host)) return 0;
        /* What lies there without a host is damage (a cleaner's, an interrupted removal's). It
         * is renamed, not removed in place, so that no other start sees half of it. */
        if (exists(to) && MoveFileExW(to, aside, 0)) continue;
        if (error != ERROR_ACCESS_DENIED && error != ERROR_SHARING_VIOLATION &&
            error != ERROR_ALREADY_EXISTS)
            return error;
        Sleep(100);
    }
    return ERROR_ACCESS_DENIED;
}

/* Unpacks into ROOT\runtime\KEY; NULL when that worked, else why it did not. */
static const wchar_t *unpack_into(wchar_t *root, const wchar_t *runtime, const wchar_t *host,
                                  const Archive *archive, const uint8_t *pack) {
    wchar_t *runtimes = join(root, L"\\runtime", NULL);
    if (lstrlenW(plain(root)) > ROOT_CHARS) return L"the folder's path is too long";
    for (wchar_t *at = root + 4; *at; at++)
        if (*at == L'\\') {
            *at = 0;
            CreateDirectoryW(root, NULL); /* a parent that is there, or a drive, may refuse */
            *at = L'\\';
        }
    if (!make_folder(root) || !make_folder(runtimes)) return reason(GetLastError());
    remove_stale(runtimes);
    wchar_t *temporary = join(runtimes, L"\\.", leaf(runtime), L".tmp.",
                              decimal(GetCurrentProcessId()), L"-", decimal(GetTickCount()), NULL);
    wchar_t *inner = join(temporary, L"\\pack", NULL);
    if (!make_folder(temporary) || !make_folder(inner)) return reason(GetLastError());
    Target target = {.folder = inner};
    Sink sink = {&target, open_entry, write_entry, close_entry};
    int status = launcher_unpack(pack, (size_t)archive->size, &sink);
    if (target.file) CloseHandle(target.file);
    const wchar_t *why = NULL;
    if (status == UNPACK_SINK_FAILED && target.error) why = reason(target.error);
    else if (status != UNPACK_OK) why = L"the runtime in the file is not a pack of plain files";
    else if (!exists(join(inner, L"\\bin\\llamafile.exe", NULL)))
        why = L"the runtime in the file has no bin\\llamafile.exe";
    else {
        DWORD error = move_in(inner, runtime, host, join(temporary, L"\\damaged", NULL));
        if (error) why = reason(error);
    }
    remove_tree(temporary);
    return why;
}

static wchar_t *environment(const wchar_t *name) {
    wchar_t *value = allocate(PATH_CHARS * sizeof *value);
    DWORD size = GetEnvironmentVariableW(name, value, PATH_CHARS);
    return size && size < PATH_CHARS ? value : NULL;
}

/* Where runtimes may go, best first: the user's cache, the temporary folder, the archive's. */
static int cache_roots(const Archive *archive, wchar_t *roots[3]) {
    int count = 0;
    wchar_t *local = environment(L"LOCALAPPDATA");
    if (local && local[1] == L':')
        roots[count++] = join(unbound(local), L"\\llamafile-build\\Cache", NULL);
    wchar_t *temporary = allocate(PATH_CHARS * sizeof *temporary);
    DWORD size = GetTempPathW(PATH_CHARS, temporary);
    if (size && size < PATH_CHARS) {
        if (temporary[size - 1] == L'\\') temporary[size - 1] = 0;
        roots[count++] = join(unbound(temporary), L"\\llamafile-build", NULL);
    }
    wchar_t *beside = join(archive->path, NULL);
    beside[leaf(beside) - beside - 1] = 0;
    roots[count++] = join(beside, L"\\.llamafile-build", NULL);
    return count;
}

/* The host executable, unpacked now if no earlier start did. A later place is looked at only when
 * the ones before it failed: in the user's own cache nobody else can have put a program. */
static wchar_t *find_host(const Archive *archive) {
    wchar_t key[KEY_CHARS + 1] = {0}, *roots[3];
    for (int i = 0; i < KEY_CHARS; i++) key[i] = archive->sha256[i];
    int count = cache_roots(archive, roots);
    uint8_t *pack = NULL;
    const wchar_t *problems = L"";
    for (int i = 0; i < count; i++) {
        wchar_t *runtime = join(roots[i], L"\\runtime\\", key, NULL);
        wchar_t *host = join(runtime, L"\\bin\\llamafile.exe", NULL);
        if (exists(host)) return host;
        if (!pack) {
            if (is_console(GetStdHandle(STD_ERROR_HANDLE)))
                say(join(L"first start: unpacking the runtime (",
                         decimal((archive->size + 524288) >> 20), L" MB) ...", NULL));
            pack = read_pack(archive);
        }
        const wchar_t *why = unpack_into(roots[i], runtime, host, archive, pack);
        if (!why) {
            if (i) say(join(L"the runtime went to ", plain(roots[i]), problems, L".", NULL));
            return host;
        }
        problems = join(problems, L"; not to ", plain(roots[i]), L": ", why, NULL);
    }
    fail(join(L"the runtime could not be unpacked", problems,
              L". Free some space or make one of these folders writable.", NULL));
}

/* --- starting the host ------------------------------------------------------------------- */

/* What follows argv[0] in the command line, byte for byte, so that every quoting survives.
 * argv[0] ends as the C runtime says: at the closing quote or the first blank. */
static const wchar_t *argument_tail(void) {
    const wchar_t *at = GetCommandLineW();
    for (int quoted = 0; *at && (quoted || (*at != L' ' && *at != L'\t')); at++)
        if (*at == L'"') quoted = !quoted;
    while (*at == L' ' || *at == L'\t') at++;
    return at;
}

/* Ctrl-C goes to every process of the console: the host decides, this one stays to pass on its
 * exit code. When the window closes, Windows ends us as soon as this returns. */
static BOOL WINAPI on_console_event(DWORD event) {
    if (event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT) return TRUE;
    if (child) WaitForSingleObject(child, INFINITE);
    return TRUE;
}

/* A job that ends the host when this process ends, however that comes about. What the host
 * starts itself (a browser) breaks away from it. */
static HANDLE make_job(void) {
    HANDLE job = CreateJobObjectW(NULL, NULL);
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    limits.BasicLimitInformation.LimitFlags =
        JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK;
    if (job) SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
    return job;
}

static HANDLE inherited(DWORD which) {
    HANDLE handle = GetStdHandle(which);
    if (handle && handle != INVALID_HANDLE_VALUE)
        SetHandleInformation(handle, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT);
    return handle;
}

static DWORD run(const wchar_t *host, const wchar_t *archive) {
    const wchar_t *tail = argument_tail();
    wchar_t *line = join(L"\"", plain(host), L"\" --archive \"", plain(archive), L"\"",
                         *tail ? L" " : L"", tail, NULL);
    STARTUPINFOW startup = {.cb = sizeof startup, .dwFlags = STARTF_USESTDHANDLES};
    startup.hStdInput = inherited(STD_INPUT_HANDLE);
    startup.hStdOutput = inherited(STD_OUTPUT_HANDLE);
    startup.hStdError = inherited(STD_ERROR_HANDLE);
    PROCESS_INFORMATION process;
    HANDLE job = make_job();
    SetConsoleCtrlHandler(on_console_event, TRUE);
    /* Suspended until it is in the job: else a kill in between would leave it alone. */
    if (!CreateProcessW(plain(host), line, NULL, NULL, TRUE, CREATE_SUSPENDED, NULL, NULL,
                        &startup, &process))
        fail(join(L"Windows does not start ", plain(host), L": ", reason(GetLastError()), L".",
                  NULL));
    child = process.hProcess;
    if (job) AssignProcessToJobObject(job, child);
    ResumeThread(process.hThread);
    WaitForSingleObject(child, INFINITE);
    DWORD code = 1;
    GetExitCodeProcess(child, &code);
    return code;
}

void launcher_start(void) {
    DWORD processes[2];
    int wine = GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "wine_get_version") != NULL;
    /* Wine gives every start from a terminal a console of its own, which does not vanish. */
    own_console = !wine && GetConsoleProcessList(processes, 2) == 1;
    Archive archive = find_archive();
    program = leaf(archive.path);
    if (wine)
        say(join(L"started by Wine. On Linux and macOS `sh ./", program,
                 L"` runs it natively, and faster.", NULL));
    const wchar_t *host = find_host(&archive);
    CloseHandle(archive.file);
    DWORD code = run(host, archive.path);
    if (code && code != STATUS_CONTROL_C_EXIT && own_console) {
        say(join(L"the program ended with code ", decimal(code), L".", NULL));
        wait_for_key();
    }
    ExitProcess(code);
}
