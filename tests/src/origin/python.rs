//! Servers that people write in Python, as they write them.

use std::net::SocketAddr;
use std::path::Path;

use crate::deadline;
use crate::process::{Process, command};

/// The system's, which has Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

/// Echoes messages with the package `websockets`.
const ECHO: &str = "
import asyncio, logging, sys, websockets
logging.disable()
async def echo(socket):
    async for message in socket:
        await socket.send(message)
async def main():
    async with websockets.serve(echo, '127.0.0.1', int(sys.argv[1]), max_size=None):
        print('listening', flush=True)
        await asyncio.Future()
asyncio.run(main())
";

/// Talks to an echo with the package `websockets`: sizes, kinds, fragments, pings, the goodbye.
const TALK: &str = "
import asyncio, sys, websockets
async def main():
    uri = 'ws://%s/chat' % sys.argv[2]
    host, port = sys.argv[1].rsplit(':', 1)
    async with websockets.connect(uri, host=host, port=int(port), max_size=None) as socket:
        for size in [0, 1, 125, 126, 65535, 65536, 1 << 20]:
            for message in ['x' * size, b'y' * size]:
                await socket.send(message)
                assert await socket.recv() == message, size
        async def parts():
            for number in range(100):
                yield 'part %d, ' % number
        await socket.send(parts())
        assert await socket.recv() == ''.join(['part %d, ' % number for number in range(100)])
        await asyncio.wait_for(await socket.ping(), 10)
        messages = ['message %d' % number for number in range(1000)]
        for message in messages:
            await socket.send(message)
        for message in messages:
            assert await socket.recv() == message
        await socket.close(4321, 'goodbye')
        assert socket.close_code == 4321, socket.close_code
    print('all said')
asyncio.run(main())
";

/// A web application.
const APPLICATION: &str = "
def app(environ, start_response):
    body = environ['wsgi.input'].read() if environ.get('HTTP_TRANSFER_ENCODING') == 'chunked' else \\
        environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
    lines = [environ['REQUEST_METHOD'], environ['PATH_INFO'], environ['HTTP_HOST'], str(len(body))]
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [' '.join(lines).encode()]
";

/// A WebSocket echo on a port of its own.
///
/// # Panics
/// When Python or its package is missing.
#[track_caller]
pub fn websockets() -> (Process, SocketAddr) {
    let address = super::free_address();
    let mut server = command(PYTHON);
    server.args(["-c", ECHO, &address.port().to_string()]);
    let mut process = Process::start("websockets", &mut server);
    process.wait_line("listening", deadline::STEP);
    (process, address)
}

/// A client of that echo, which is `host` at `address`; ends with `all said`.
pub fn websockets_client(address: SocketAddr, host: &str) -> std::process::Command {
    let mut client = command(PYTHON);
    client.args(["-c", TALK, &address.to_string(), host]);
    client
}

/// gunicorn with a small application on the Unix socket `socket`, whose folder takes the application.
///
/// # Panics
/// When gunicorn is missing or does not start.
#[track_caller]
pub fn gunicorn(socket: &Path) -> Process {
    let folder = socket.parent().expect("a socket is in a folder");
    std::fs::write(folder.join("lab.py"), APPLICATION).expect("a fresh file");
    let mut server = command("gunicorn");
    server
        .arg("--chdir")
        .arg(folder)
        .args(["--threads", "4", "--bind"]);
    server.arg(format!("unix:{}", socket.display())).arg("lab:app");
    let mut process = Process::start("gunicorn", &mut server);
    process.wait_line("Booting worker", deadline::STEP);
    process
}
