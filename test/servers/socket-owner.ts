/** Which process has a connection's other end, as Linux tells: for faults that kill it. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

const LOCAL_ADDRESS = 1;
const INODE = 9;

/** Null when none has it any more. Linux only. */
export function socketOwner(localPort: number): number | null {
  const port = `:${localPort.toString(16).toUpperCase().padStart(4, "0")}`;
  const table = readFileSync("/proc/net/tcp", "utf8").split("\n");
  const line = table.map((text) => text.trim().split(/\s+/));
  const inode = line.find((fields) => fields[LOCAL_ADDRESS]?.endsWith(port))?.[INODE];
  const link = `socket:[${inode}]`;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    if (linksOf(`/proc/${pid}/fd`).includes(link)) return Number(pid);
  }
  return null;
}

function linksOf(dir: string): string[] {
  try {
    return readdirSync(dir).map((name) => linkOf(`${dir}/${name}`));
  } catch {
    return [];
  }
}

function linkOf(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return "";
  }
}
