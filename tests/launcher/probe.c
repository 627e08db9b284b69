/* The Windows launcher's tests start this in place of the runtime. It prints its command line
 * as UTF-8, then does what PROBE says: "exit N", "cat" (stdin to stdout), or "ctrl-c" (waits for
 * Ctrl-C and then exits 42). No C runtime, so that compiling it takes a second. */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

static HANDLE interrupted;

static void put(const char *bytes, DWORD size) {
    DWORD done;
    WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), bytes, size, &done, NULL);
}

static BOOL WINAPI on_event(DWORD event) {
    if (event == CTRL_C_EVENT) SetEvent(interrupted);
    return TRUE;
}

void probe_start(void) {
    static char line[100000], piece[4096];
    static WCHAR what[64];
    int size = WideCharToMultiByte(CP_UTF8, 0, GetCommandLineW(), -1, line, sizeof line, NULL, NULL);
    GetEnvironmentVariableW(L"PROBE", what, 64);
    if (what[0] == L'c' && what[1] == L't') {
        interrupted = CreateEventW(NULL, TRUE, FALSE, NULL);
        SetConsoleCtrlHandler(on_event, TRUE);
    }
    put(line, size - 1);
    put("\n", 1);
    if (interrupted) {
        if (WaitForSingleObject(interrupted, 60000) == WAIT_OBJECT_0) ExitProcess(42);
        put("never interrupted\n", 18);
        ExitProcess(43);
    }
    DWORD got;
    if (what[0] == L'c')
        while (ReadFile(GetStdHandle(STD_INPUT_HANDLE), piece, sizeof piece, &got, NULL) && got)
            put(piece, got);
    DWORD code = 0;
    if (what[0] == L'e')
        for (int i = 5; what[i] >= L'0' && what[i] <= L'9'; i++) code = code * 10 + what[i] - L'0';
    ExitProcess(code);
}
