/** One page as the manual describes it, written from its text and from nothing else. @spec APM vol. 2, 15.36.3 to 15.36.7 */
export interface ModelPage {
  /** The host maps the private side here. */
  isPrivate: boolean;
  assigned: boolean;
  validated: boolean;
  immutable: boolean;
  vmsa: boolean;
  /** Belongs to an entry of 2 MiB. */
  large: boolean;
  /** Of another guest. */
  foreign: boolean;
  /** Masks of VMPL 1 to 3. */
  perms: [number, number, number];
}

/** How the operand is mapped by the guest. */
export type Mapping = 'private' | 'shared' | 'large';
export type Access = 'read' | 'write' | 'execute' | 'user execute';

const REGION = 512;
const fresh = (): ModelPage => ({ isPrivate: false, assigned: false, validated: false, immutable: false, vmsa: false, large: false, foreign: false, perms: [0, 0, 0] });
const NEEDS: Readonly<Record<Access, number>> = { read: 1, write: 2, 'user execute': 4, execute: 8 };

/** A reverse map table as a plain array of pages. What happens is said in words: a status, a fault or an exit. */
export class RmpModel {
  readonly pages: ModelPage[];

  constructor(readonly count: number) {
    this.pages = Array.from({ length: count }, fresh);
  }

  #region(n: number): ModelPage[] {
    const first = n - (n % REGION);
    return this.pages.slice(first, first + REGION);
  }
  #entry(n: number): ModelPage[] {
    return this.pages[n]!.large ? this.#region(n) : [this.pages[n]!];
  }
  #smash(n: number): void {
    for (const page of this.#region(n)) page.large = false;
  }

  /** The host gives a page its entry when it is first used. */
  #demand(n: number): void {
    const page = this.pages[n]!;
    if (page.isPrivate && !page.assigned && !page.immutable) Object.assign(page, fresh(), { isPrivate: true, assigned: true });
  }

  /** What an operand or access with C=1 meets before validation counts; null when nothing. */
  #owned(n: number, mapping: Mapping): string | null {
    const page = this.pages[n]!;
    if (mapping === 'shared') return page.isPrivate ? 'exit memoryFault' : page.assigned ? 'exit rmpFault 1' : null;
    if (!page.isPrivate) return 'exit memoryFault';
    this.#demand(n);
    return page.immutable || page.foreign ? 'exit rmpFault 5' : null;
  }

  #operand(n: number, size: number, mapping: Mapping): string | null {
    if (mapping === 'shared') return this.pages[n]!.isPrivate ? 'exit memoryFault' : 'exit rmpFault 1';
    const met = this.#owned(n, mapping);
    // The host divides what is too large, and the instruction runs again.
    if (met === null && size === 0 && this.pages[n]!.large) this.#smash(n);
    return met;
  }

  pvalidate(vmpl: number, n: number, size: number, mapping: Mapping, validate: boolean): string {
    if (vmpl !== 0) return 'fault 13';
    if (size > 1 || (size === 1 && n % REGION !== 0)) return 'status 1';
    if (size === 1 && mapping !== 'large') return 'status 6';
    const met = this.#operand(n, size, mapping);
    if (met !== null) return met;
    const page = this.pages[n]!;
    if (size === 1 && !page.large) return 'status 6';
    if (page.validated === validate) return 'status 0 unchanged';
    for (const p of this.#entry(n)) p.validated = validate;
    return 'status 0';
  }

  rmpadjust(vmpl: number, n: number, size: number, mapping: Mapping, target: number, mask: number, vmsa: boolean): string {
    if (target <= vmpl || target > 3) return 'status 2';
    if (mask > 0x1f || size > 1 || (size === 1 && n % REGION !== 0)) return 'status 1';
    if (size === 1 && mapping !== 'large') return 'status 6';
    const met = this.#operand(n, size, mapping);
    if (met !== null) return met;
    const page = this.pages[n]!;
    if (!page.validated) return 'fault 29';
    if (size === 1 && !page.large) return 'status 6';
    const own = vmpl === 0 ? 0x1f : page.perms[vmpl - 1]!;
    if ((mask & own) !== mask) return 'status 2';
    for (const p of this.#entry(n)) {
      p.perms[target - 1] = mask;
      if (vmpl === 0) p.vmsa = vmsa;
    }
    return 'status 0';
  }

  rmpquery(vmpl: number, n: number, mapping: Mapping, target: number): string {
    if (target < vmpl || target > 3) return 'status 2';
    const met = this.#operand(n, 1, mapping);
    if (met !== null) return met;
    const page = this.pages[n]!;
    if (!page.validated) return 'fault 29';
    return `status 0 mask ${target === 0 ? 0x1f : page.perms[target - 1]!} vmsa ${page.vmsa} large ${page.large}`;
  }

  access(vmpl: number, n: number, mapping: Mapping, access: Access): string {
    // Fetches are private whatever the mapping says.
    const asMapped = access === 'read' || access === 'write' ? mapping : 'private';
    const met = this.#owned(n, asMapped);
    if (met !== null || asMapped === 'shared') return met ?? 'done';
    const page = this.pages[n]!;
    if (!page.validated) return 'fault 29';
    if (vmpl > 0 && (page.perms[vmpl - 1]! & NEEDS[access]) === 0) return 'exit vmplFault 21';
    return 'done';
  }

  assign(n: number, count: number, isPrivate: boolean, large: boolean): void {
    const changes = (i: number): boolean => {
      const page = this.pages[i]!;
      return !page.immutable && !(page.isPrivate === isPrivate && page.assigned === isPrivate && !page.foreign);
    };
    for (let i = n; i < n + count; ) {
      if (!changes(i)) {
        i++;
        continue;
      }
      // Pages that were alike change together.
      let end = i + 1;
      while (end < n + count && same(this.pages[end]!, this.pages[i]!)) end++;
      this.#edges(i, end);
      for (let k = i; k < end; k++) this.pages[k] = { ...fresh(), isPrivate, assigned: isPrivate };
      if (large && isPrivate) for (let r = Math.ceil(i / REGION) * REGION; r + REGION <= end; r += REGION) for (const page of this.#region(r)) page.large = true;
      i = end;
    }
  }

  /** A change that ends within an entry of 2 MiB divides it. */
  #edges(first: number, end: number): void {
    for (const at of [first, end]) if (at < this.count && at % REGION !== 0 && this.pages[at]!.large) this.#smash(at);
  }

  setAttribute(n: number, count: number, isPrivate: boolean): void {
    for (let i = n; i < n + count; i++) {
      const page = this.pages[i]!;
      if (page.isPrivate === isPrivate) continue;
      if (isPrivate || page.immutable || !page.assigned) page.isPrivate = isPrivate;
      else {
        if (page.large) this.#smash(i);
        this.pages[i] = fresh();
      }
    }
  }

  update(n: number, assigned: boolean, large: boolean, immutable: boolean, foreign: boolean): number {
    if ((large && n % REGION !== 0) || (!assigned && (immutable || foreign))) return 1;
    const page = this.pages[n]!;
    if (!large && page.large) return 4;
    if (large && !page.large && this.#region(n).some((p, i) => i > 0 && p.assigned)) return 4;
    if (page.immutable) return 2;
    const isLarge = large && assigned;
    const isSame = page.assigned === assigned && page.large === isLarge && page.foreign === foreign;
    for (const p of large ? this.#region(n) : [page]) {
      Object.assign(p, isSame ? { immutable } : { ...fresh(), isPrivate: p.isPrivate, assigned, immutable, foreign, large: isLarge });
      // The first page speaks for all of a large entry.
      if (isSame && large) Object.assign(p, { assigned, large: isLarge, foreign });
    }
    return 0;
  }

  smash(n: number): number {
    const page = this.pages[n]!;
    if (n % REGION !== 0 || !page.assigned || !page.large) return 1;
    if (page.immutable) return 2;
    this.#smash(n);
    return 0;
  }

  launch(n: number, perms: readonly [number, number, number], vmsa: boolean): void {
    this.#edges(n, n + 1);
    this.pages[n] = { ...fresh(), isPrivate: true, assigned: true, validated: true, vmsa, perms: [...perms] };
  }
}

const same = (a: ModelPage, b: ModelPage): boolean => JSON.stringify(a) === JSON.stringify(b);
