/** What every lake storage must do, over a local directory and over S3. */
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { LakeStorage } from "../../lib/sinks/lake-storage.js";
import { localPlace, s3Place } from "./lake-places.js";

for (const place of [localPlace, await s3Place()]) {
  const { missing } = place;
  const title = `lake storage in ${place.name}${missing === null ? "" : ` (skipped: ${missing})`}`;

  describe.skipIf(missing !== null)(title, () => {
    let dir: string;
    let storage: LakeStorage;
    const bytes = (text: string) => Buffer.from(text);
    const textOf = async (name: string) => {
      const found = await storage.get(name);
      return found === null ? null : Buffer.from(found).toString();
    };

    beforeAll(() => place.start());
    beforeEach(async () => {
      dir = await fs.mkdtemp(path.join(tmpdir(), "millpond-storage-"));
      storage = place.storage(dir);
      await fs.mkdir(storage.tempDir, { recursive: true });
    });
    afterEach(() => place.clear(dir));
    afterAll(() => place.stop());

    it("creates a file once, from bytes or from a local file that it takes over", async () => {
      const staged = path.join(storage.tempDir, "staged");
      await fs.writeFile(staged, "from a file");
      expect(await storage.putIfAbsent("t/a", { file: staged })).toBe("created");
      await expect(fs.access(staged)).rejects.toMatchObject({ code: "ENOENT" });
      expect(await storage.putIfAbsent("t/a", bytes("other"))).toBe("exists");
      expect(await textOf("t/a")).toBe("from a file");
      await fs.writeFile(staged, "again");
      expect(await storage.putIfAbsent("t/a", { file: staged })).toBe("exists");
      await expect(fs.access(staged)).rejects.toMatchObject({ code: "ENOENT" });
      expect(await storage.putIfAbsent("t/empty", new Uint8Array())).toBe("created");
      expect(await textOf("t/empty")).toBe("");
      expect(await textOf("t/a")).toBe("from a file");
    });

    it("lets exactly one of 16 racing writers create a file", async () => {
      for (let round = 0; round < 10; round++) {
        const replies = await Promise.all(
          Array.from({ length: 16 }, (_, n) =>
            place.storage(dir).putIfAbsent(`t/${round}`, bytes(`${n}`)),
          ),
        );
        expect(replies.filter((reply) => reply === "created")).toHaveLength(1);
        expect(await textOf(`t/${round}`)).toBe(`${replies.indexOf("created")}`);
      }
    });

    it("replaces, reads and deletes", async () => {
      expect(await textOf("t/hint")).toBeNull();
      await storage.put("t/hint", bytes("1"));
      await storage.put("t/hint", bytes("22"));
      expect(await textOf("t/hint")).toBe("22");
      await storage.delete("t/hint");
      await storage.delete("t/hint");
      expect(await textOf("t/hint")).toBeNull();
    });

    it("lists a folder at any depth in order, from a name on, and nothing beside it", async () => {
      const names = ["t/_log/02", "t/_log/10", "t/_log/1a", "t/d=1/p", "t/d=1/x/y", "tt/z", "u"];
      for (const name of names) await storage.put(name, bytes(name));
      expect(await storage.list("t")).toEqual(names.filter((name) => name.startsWith("t/")));
      expect(await storage.list("t/_log")).toEqual(["t/_log/02", "t/_log/10", "t/_log/1a"]);
      expect(await storage.list("t/_log", "t/_log/02")).toEqual(["t/_log/10", "t/_log/1a"]);
      expect(await storage.list("t/_log", "t/_log/03")).toEqual(["t/_log/10", "t/_log/1a"]);
      expect(await storage.list("none")).toEqual([]);
    });

    it("lends local copies, in order, and cleans up after work that fails too", async () => {
      const names = Array.from({ length: 9 }, (_, n) => `t/${n}.parquet`);
      for (const name of names) await storage.put(name, bytes(name));
      const texts = await storage.withLocal(names, (files) =>
        Promise.all(files.map((file) => fs.readFile(file, "utf8"))),
      );
      expect(texts).toEqual(names);
      const failing = storage.withLocal(names, async () => {
        throw new TypeError("work failed");
      });
      await expect(failing).rejects.toThrow("work failed");
      expect(await fs.readdir(storage.tempDir)).toEqual([]);
      expect(await textOf("t/0.parquet")).toBe("t/0.parquet");
    });
  });
}
