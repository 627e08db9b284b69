//! What stub.c takes from Zig's standard library: SHA-256, gzip and tar.
//!
//! The stub must not carry a hand-written inflate, and Windows has no gzip reader in its API;
//! Zig's own are kept and fuzzed by others. No allocation and no operating system calls happen
//! here: bytes come in as one slice, files go out through the caller's callbacks.

const std = @import("std");

/// A refused tar header must end in our sentence, never in a trace: the stub has no console
/// machinery to print one with.
pub const panic = std.debug.no_panic;

const Status = enum(c_int) { ok = 0, damaged = 1, unsupported = 2, sink_failed = 3 };

/// The caller's half. Each callback answers 0 to go on and anything else to stop.
const Sink = extern struct {
    context: ?*anyopaque,
    /// A new entry: its name (not NUL-terminated, not checked) and whether it is a folder.
    open: *const fn (?*anyopaque, [*]const u8, usize, c_int) callconv(.c) c_int,
    /// Bytes of the entry opened last.
    write: *const fn (?*anyopaque, [*]const u8, usize) callconv(.c) c_int,
    /// The entry opened last is complete.
    close: *const fn (?*anyopaque) callconv(.c) c_int,
};

/// One start-up unpacks one archive on one thread, so the 64 KiB window can be static; on the
/// stack it would need stack probes.
var window: [std.compress.flate.max_window_len]u8 = undefined;
var chunk: [1 << 16]u8 = undefined;
var name_buffer: [256]u8 = undefined;
var link_buffer: [256]u8 = undefined;

export fn launcher_sha256(data: [*]const u8, size: usize, digest: *[32]u8) void {
    std.crypto.hash.sha2.Sha256.hash(data[0..size], digest, .{});
}

/// Unpacks a gzipped tar of regular files and folders; anything else in it is `unsupported`.
export fn launcher_unpack(data: [*]const u8, size: usize, sink: *const Sink) Status {
    unpack(data[0..size], sink) catch |err| return switch (err) {
        error.SinkFailed => .sink_failed,
        error.TarUnsupportedHeader, error.Unsupported => .unsupported,
        else => .damaged,
    };
    return .ok;
}

fn unpack(data: []const u8, sink: *const Sink) !void {
    var compressed: std.Io.Reader = .fixed(data);
    var inflate: std.compress.flate.Decompress = .init(&compressed, .gzip, &window);
    var entries: std.tar.Iterator = .init(&inflate.reader, .{
        .file_name_buffer = &name_buffer,
        .link_name_buffer = &link_buffer,
    });
    while (try entries.next()) |entry| {
        if (entry.kind == .sym_link) return error.Unsupported;
        const folder = entry.kind == .directory;
        if (sink.open(sink.context, entry.name.ptr, entry.name.len, @intFromBool(folder)) != 0)
            return error.SinkFailed;
        while (entries.unread_file_bytes > 0) {
            const want: usize = @intCast(@min(entries.unread_file_bytes, chunk.len));
            try inflate.reader.readSliceAll(chunk[0..want]);
            entries.unread_file_bytes -= want;
            if (sink.write(sink.context, &chunk, want) != 0) return error.SinkFailed;
        }
        if (sink.close(sink.context) != 0) return error.SinkFailed;
    }
}
