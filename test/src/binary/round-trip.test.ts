import { layoutProperties } from './properties.ts';

layoutProperties(300);
