import { choosePlatform, type IgvmMemoryRange, IgvmPlatform, loadIgvm, madt, readIgvm } from '@vmplanes/boot';
import { HostError, type LaunchSink, type Machine, PAGE_SIZE } from '@vmplanes/engine';
import type { X86Arch } from '@vmplanes/x86';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

/** What a configuration says of the image that a guest starts from. */
export interface BootConfig {
  /** Path of an IGVM file. */
  readonly igvm: string;
  readonly commandLine?: string | undefined;
}

/** An image with what identifies it. */
export interface BootImage {
  readonly source: string;
  readonly bytes: Uint8Array;
  readonly commandLine: string;
  /** SHA-256 of the file, in hexadecimal. */
  readonly sha256: string;
}

/** Reads the image of a configuration. @param directory - that relative paths start from. @throws {HostError} BadFile. */
export function readBootImage(boot: BootConfig, directory: string): BootImage {
  const path = resolve(directory, boot.igvm);
  try {
    const bytes = new Uint8Array(readFileSync(path));
    return { source: boot.igvm, bytes, commandLine: boot.commandLine ?? '', sha256: createHash('sha256').update(bytes).digest('hex') };
  } catch (error) {
    throw new HostError('BadFile', `boot.igvm: ${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`, { path, fix: 'name an IGVM file' });
  }
}

/** Platforms of the file format by the names that personalities give them. */
const platforms: Readonly<Record<string, IgvmPlatform>> = { native: IgvmPlatform.Native, vsm: IgvmPlatform.VsmIsolation, 'sev-snp': IgvmPlatform.SevSnp, tdx: IgvmPlatform.Tdx, sev: IgvmPlatform.Sev, 'sev-es': IgvmPlatform.SevEs };

const memoryOf = (machine: Machine): readonly IgvmMemoryRange[] => machine.memory.slots.all.map((s) => ({ gpa: s.first * PAGE_SIZE, bytes: s.pages * PAGE_SIZE, type: 0 }));

function sinkOf(machine: Machine): LaunchSink {
  const sink = machine.personalities.find((p) => p.launch)?.launch;
  if (!sink) throw new HostError('BadConfig', 'boot: no personality of this guest places images (choose a guest type that does, such as sev-snp)', { path: 'boot', fix: 'choose a guest type that does' });
  return sink;
}

/**
 * Places an image in a machine that has its memory and its VPs, and has not run.
 * @throws {HostError} BadImage, BadConfig: with the file.
 */
export function placeBootImage(machine: Machine, arch: X86Arch, image: BootImage): void {
  const sink = sinkOf(machine);
  try {
    const file = readIgvm(image.bytes);
    const platform = choosePlatform(file, sink.platforms.flatMap((name) => platforms[name] ?? []));
    loadIgvm(file, platform, sink, {
      vpCount: machine.vps.length,
      memory: memoryOf(machine),
      isMemoryShared: !machine.memory.isPrivate(machine.memory.slots.all[0]?.first ?? 0),
      commandLine: image.commandLine,
      tables: { madt: madt(machine.vps.map((vp) => arch.fabric.apicId(vp.index))) },
    });
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    throw new HostError(error.code, `${image.source}: ${error.message}`, error.details);
  }
}
